"""Time and memory of one attention layer in training: forward and backward, bf16, CUDA.

Every layer has d = 512 and 8 heads, projections included, and is replayed from a CUDA
graph, so that launches do not count. Peers in the same run, with PyTorch's flash and its
cuDNN kernel: `sdpa`, the barest MHA that there is (no positions at all), which ratios
refer to; `mha`, ours with rotary positions; `paper`, the PyPI package `mtla` in float32,
not from a graph (it copies from the host) and only to T = 4096 (it materialises T x T).

    python bench/train_layer.py [--compile] [--sizes 64x320 ...] [--kinds mha mtla2 ...]
"""

import argparse
import statistics

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from mtla_espnet.attention.kinds import attention_class
from mtla_espnet.position import Positions

SIZES = ("64x320", "16x1024", "4x4096", "1x16384")
KINDS = ("sdpa", "mha", "mla", "mtla2", "mtla3", "mtla4", "paper")
KERNELS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
WIDTH, HEADS = 512, 8


class Bare(torch.nn.Module):
    """Causal multi-head attention without positions, one projection for q, k and v."""

    def __init__(self):
        super().__init__()
        self.qkv = torch.nn.Linear(WIDTH, 3 * WIDTH)
        self.out = torch.nn.Linear(WIDTH, WIDTH)

    def forward(self, x, *_):
        """(B, T, d) -> (B, T, d)."""
        qkv = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(*qkv, is_causal=True)
        return self.out(y.transpose(1, 2).flatten(2))


def build(kind, compiled):
    """Return the module, and how it is called with x (B, T, d) and position (B, T)."""
    if kind == "paper":
        from mtla import MultiheadTemporalLatentAttention

        module = MultiheadTemporalLatentAttention(WIDTH, HEADS, down_rate=2).cuda()
        return module, lambda x, position: module(x, x, x, position=position[:1].float())
    options = {"down_rate": int(kind[4:])} if kind.startswith("mtla") else {}
    name = kind.rstrip("0123456789")
    module = Bare() if kind == "sdpa" else attention_class(name)(WIDTH, HEADS, **options)
    module.cuda().bfloat16()
    if compiled:
        torch._dynamo.reset()
        # its key does not know which kernel PyTorch's attention was to take
        torch._functorch.config.enable_autograd_cache = False
        module.compile(dynamic=False)
    return module, lambda x, index: module(x, x, *[Positions(index)] * 2)


def measure(kind, kernel, batch, size, compiled, repeats=20):
    """Return milliseconds (median) and MiB at the peak above weights and input."""
    dtype = torch.float32 if kind == "paper" else torch.bfloat16
    x = torch.randn(batch, size, WIDTH, device="cuda", dtype=dtype, requires_grad=True)
    grad = torch.randn_like(x)
    position = torch.arange(size, device="cuda").expand(batch, size)
    with sdpa_kernel(KERNELS.get(kernel, SDPBackend.MATH)):
        module, call = build(kind, compiled)

        def update():
            call(x, position).backward(grad)

        def forget():
            x.grad = None
            module.zero_grad(set_to_none=True)

        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                update()
                forget()
        torch.cuda.current_stream().wait_stream(side)
        update()  # so that this stream has its workspaces
        forget()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        update()
        torch.cuda.synchronize()
        forget()
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20
        replay = update
        if kind != "paper":
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                update()
            replay = graph.replay
    times = []
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times), peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compile", action="store_true", help="torch.compile each layer")
    parser.add_argument("--sizes", nargs="+", default=SIZES, metavar="BxT")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--kernels", nargs="+", default=tuple(KERNELS), choices=KERNELS)
    args = parser.parse_args()
    print(torch.cuda.get_device_name(), torch.__version__, "compiled" if args.compile else "eager")
    print("| size | kind | kernel | ms | x SDPA | MiB | x SDPA |\n" + "|---" * 7 + "|")
    for text in args.sizes:
        batch, size = map(int, text.split("x"))
        best, memory = float("inf"), float("inf")
        for kind in args.kinds:
            if kind == "paper" and size > 4096:
                continue
            for kernel in ("dense",) if kind == "paper" else args.kernels:
                torch.cuda.empty_cache()
                ms, peak = measure(kind, kernel, batch, size, args.compile)
                if kind == "sdpa":  # the better of the two
                    best, memory = min(best, ms), min(memory, peak)
                print(
                    f"| B{batch} T{size} | {kind} | {kernel} | {ms:.3f} | {ms / best:.2f} "
                    f"| {peak:.0f} | {peak / memory:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
