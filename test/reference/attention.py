"""Self-attention one query at a time, in loops written from the papers.

float64, no batch, no cache, no fused operation. Each takes a module for its weights
alone and the positions of one utterance, (T, d), and returns (T, d).
"""

import math

import torch


def linear(layer, x, bias=True):
    y = layer.weight.double() @ x
    return y + layer.bias.double() if bias and layer.bias is not None else y


def layer_norm(layer, x):
    centred = x - x.mean()
    scaled = centred / torch.sqrt((centred**2).mean() + layer.eps)
    return scaled * layer.weight.double() + layer.bias.double()


def rope(x, position, frequencies=None):
    out = x.clone()
    for pair in range(len(x) // 2):
        angle = position * (frequencies[pair] if frequencies else 10000.0 ** (-2 * pair / len(x)))
        a, b = x[2 * pair], x[2 * pair + 1]
        out[2 * pair] = a * math.cos(angle) - b * math.sin(angle)
        out[2 * pair + 1] = a * math.sin(angle) + b * math.cos(angle)
    return out


def softmax_sum(scores, values):
    weights = torch.softmax(torch.stack(scores), dim=0)
    return sum(w * v for w, v in zip(weights, values, strict=True))


def grouped_query(module, x):
    x = x.double()
    heads, groups, width = module.num_heads, module.num_kv_heads, module.head_dim
    out = []
    for i in range(len(x)):
        query = linear(module.wq, x[i]).view(heads, width)
        context = []
        for head in range(heads):
            group = head * groups // heads
            scores, values = [], []
            for m in range(i + 1):
                key = rope(linear(module.wk, x[m]).view(groups, width)[group], m)
                scores.append(rope(query[head], i) @ key / math.sqrt(width))
                values.append(linear(module.wv, x[m]).view(groups, width)[group])
            context.append(softmax_sum(scores, values))
        out.append(linear(module.wo, torch.cat(context)))
    return torch.stack(out)


def latent(module, x, down_rate=None, groups=1, window=None):
    """MLA; GLA with latents of `groups` groups; MTLA with chunks of down_rate positions.

    With `window` positions are merged by a softmax once their window is full, and seen raw before.
    """
    x = x.double()
    rank, rope_dim = module.kv_lora_rank, module.qk_rope_head_dim
    nope, value_dim, heads = module.qk_nope_head_dim, module.v_head_dim, module.num_heads
    turns = module.slot.frequencies
    up = module.wkv_b.weight.double().view(heads, nope + value_dim, rank)

    def own(m):
        joint = linear(module.wkv_a, x[m])
        latents, norm = joint[: groups * rank].view(groups, rank), module.kv_norm
        if norm is None:
            return latents.flatten(), rope(joint[groups * rank :], m, turns)
        scaled = (latents - latents.mean(1, keepdim=True)) / latents.var(
            1, unbiased=False, keepdim=True
        ).add(norm.eps).sqrt()
        latents = scaled.flatten() * norm.weight.double() + norm.bias.double()
        return latents, rope(joint[groups * rank :], m, turns)

    def weight(m):
        chunk = m // down_rate
        code = torch.zeros(rank, dtype=torch.float64)
        for k in range(rank // 2):
            code[2 * k] = math.sin(chunk * 10000.0 ** (-2 * k / rank))
            code[2 * k + 1] = math.cos(chunk * 10000.0 ** (-2 * k / rank))
        net = module.hypernet_down
        return torch.sigmoid(linear(net.fc_c, code) @ linear(net.fc_p, own(m)[0]))

    def merged(first):
        members = [own(m) for m in range(first, first + window)]
        scores = [linear(module.window_softmax.gate, c) for c, _ in members]
        scores = torch.stack(scores) + module.window_softmax.bias.double()
        total = torch.zeros(rank, dtype=torch.float64)
        for channel in range(rank):
            weights = torch.softmax(scores[:, channel], dim=0)
            total[channel] = sum(w * c[channel] for w, (c, _) in zip(weights, members, strict=True))
        return layer_norm(module.window_softmax.norm, total), members[-1][1]

    def seen(i):
        """(latent, rotary key) of every slot that query i sees."""
        if window is not None:
            begin = i // window * window
            full = [merged(first) for first in range(0, begin, window)]
            return full + [own(m) for m in range(begin, i + 1)]
        if down_rate is None:
            return [own(m) for m in range(i + 1)]
        slots = []
        for first in range(0, i + 1, down_rate):
            members = range(first, min(first + down_rate, i + 1))
            slots.append((sum(weight(m) * own(m)[0] for m in members), own(members[-1])[1]))
        return slots

    out = []
    for i in range(len(x)):
        if module.q_lora_rank:
            query = linear(module.wq_b, layer_norm(module.q_norm, linear(module.wq_a, x[i])))
        else:
            query = linear(module.wq, x[i])
        query = query.view(heads, nope + rope_dim)
        context = []
        for head in range(heads):
            turned = rope(query[head, nope:], i, turns)
            scores, values = [], []
            group = head * groups // heads
            for c, key in seen(i):
                c = c[group * rank : (group + 1) * rank]
                score = query[head, :nope] @ (up[head, :nope] @ c) + turned @ key
                scores.append(score / math.sqrt(nope + rope_dim))
                values.append(up[head, nope:] @ c)
            context.append(softmax_sum(scores, values))
        out.append(linear(module.wo, torch.cat(context)))
    return torch.stack(out)


def attention(kind, module, x):
    """The reference of a YAML name."""
    if kind in ("mha", "mqa", "gqa"):
        return grouped_query(module, x)
    if kind == "gla":
        return latent(module, x, groups=module.num_latent_groups)
    if kind == "mtla" and module.merge == "softmax":
        return latent(module, x, window=module.down_rate)
    return latent(module, x, module.down_rate if kind == "mtla" else None)
