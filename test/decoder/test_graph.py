import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from mtla_espnet.attention.ops import decode
from mtla_espnet.decoder.graph import GraphDecoder
from strategies import KINDS, SIZE, build_decoder, kinds, lengths, seeds

VOCABULARY = 20


def build(kind, prefix, seed, device="cpu", dtype=torch.float32, **options):
    decoder = build_decoder(kind, VOCABULARY, prefix, seed, **options)
    for parameter in decoder.parameters():  # LayerNorms and biases of 1 and 0 hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return decoder.to(device, dtype)


def paths(sizes, beams, steps, seed):
    """Tokens and parents of random hypotheses that fork and end."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.arange(len(sizes))[:, None] * beams
    for _ in range(steps):
        tokens = torch.randint(VOCABULARY, (len(sizes) * beams,), generator=generator)
        parents = torch.randint(beams, (len(sizes), beams), generator=generator) + first
        yield tokens, parents.flatten()


@given(
    kinds, st.sampled_from(["static", "recompute"]), lengths(most=9, rows=3), st.integers(1, 3),
    st.integers(1, 2), seeds,
)  # fmt: skip
def test_equals_the_steps_over_the_moving_cache(kind, prefix, sizes, beams, stride, seed):
    decoder, hlens = build(kind, prefix, seed, prefix_stride=stride), torch.tensor(sizes)
    with torch.no_grad():
        ours = GraphDecoder(decoder, len(sizes), beams, 9, max_length=2)
        for again in range(2):  # the second time over what the first one left
            hidden = torch.randn(len(sizes), max(sizes), SIZE)
            ours.start(hidden, hlens)
            cache = decoder.init_cache(hidden, hlens)
            cache.expand(len(sizes) * beams)
            for step, (tokens, parents) in enumerate(paths(sizes, beams, 6, seed)):
                if step == 2 and not again:
                    ours.grow(6)
                assert (ours.step(tokens) - decoder.step(tokens, cache)).abs().max() < 1e-4
                assert ours.cache.suffix_nbytes == cache.suffix_nbytes
                cache.reorder(parents)
                ours.cache.parents.copy_(parents)


def test_a_materialised_prefix_counts_keys_and_values():
    decoder = build(("mtla", {"down_rate": 2}), "static", 0)
    ours = GraphDecoder(decoder, 2, 3, 8, max_length=4)
    ours.start(torch.randn(2, 7, SIZE), torch.tensor([7, 4]))
    nope = rope = value = SIZE // 4  # a head's; the rotary part has half
    assert ours.cache.prefix_nbytes == 2 * 4 * (nope + rope // 2 + value) * (3 + 2) * 4
    assert ours.cache.nbytes == ours.cache.prefix_nbytes + ours.cache.suffix_nbytes
    assert ours.cache.nbytes_allocated >= ours.cache.nbytes


@pytest.mark.gpu
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float16, torch.bfloat16], ids=lambda d: str(d)[6:]
)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_kernels_equal_the_plain_form(kind, dtype):
    """Against float32 on the CPU; low precision at most twice as far off as plain steps."""
    sizes, beams = [70, 3, 1, 40], 19
    exact, gpu = build(kind, "static", 0), build(kind, "static", 0, "cuda", dtype)
    hlens = torch.tensor(sizes)
    with torch.no_grad():
        hidden = torch.randn(len(sizes), max(sizes), SIZE)
        truth = GraphDecoder(exact, len(sizes), beams, 70, max_length=40)
        ours = GraphDecoder(gpu, len(sizes), beams, 70, max_length=40)
        truth.start(hidden, hlens)
        ours.start(hidden.to("cuda", dtype), hlens.cuda())
        plain = gpu.init_cache(hidden.to("cuda", dtype), hlens.cuda())
        plain.expand(len(sizes) * beams)
        for tokens, parents in paths(sizes, beams, 40, 0):
            expected = truth.step(tokens)
            error = (ours.step(tokens.cuda()).float().cpu() - expected).norm()
            peer = (gpu.step(tokens.cuda(), plain).float().cpu() - expected).norm()
            limit = 2 * peer if dtype != torch.float32 else 1e-5 * expected.norm()
            assert error <= limit
            plain.reorder(parents.cuda())
            truth.cache.parents.copy_(parents)
            ours.cache.parents.copy_(parents)


class CountedOperations(TorchDispatchMode):
    """Counts operations that compute, and what a kernel stands for as one."""

    views = frozenset(
        "alias detach expand permute select slice split split_with_sizes squeeze t transpose "
        "unbind unsqueeze view _unsafe_view".split()
    )

    def __init__(self, monkeypatch):
        super().__init__()
        self.count, self._inside = 0, False
        for name in ("advance", "write", "attend_prefix", "attend_suffix", "add_norm"):
            monkeypatch.setattr(decode, name, self._as_one(getattr(decode, name)))

    def _as_one(self, function):
        def counted(*args):
            self.count, self._inside = self.count + 1, True
            result = function(*args)
            self._inside = False
            return result

        return counted

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        self.count += not self._inside and name not in self.views
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(("mha", {}), 9), (("mla", {}), 11), (("mtla", {"down_rate": 2}), 11), (("gla", {}), 11)],
    ids=str,
)
def test_a_layer_of_a_step_takes_few_operations(kind, expected, monkeypatch):
    """On a GPU each of them is a launch."""
    counts = []
    for layers in (1, 2):
        decoder = build_decoder(kind, VOCABULARY)
        decoder.blocks = decoder.blocks[:layers]
        counted = CountedOperations(monkeypatch)
        ours = GraphDecoder(decoder, 2, 3, 8, max_length=4)
        with torch.no_grad():
            ours.start(torch.randn(2, 7, SIZE), torch.tensor([7, 4]))
            with counted:
                ours.step(torch.zeros(6, dtype=torch.int64))
        monkeypatch.undo()
        counts.append(counted.count)
    assert counts[1] - counts[0] == expected
