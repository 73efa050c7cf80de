"""The attentions as modules of their own, called as in the paper's code.

They keep the paper's fixed sizes; the classes that they stand on follow the model's size.
"""

from mtla_espnet.attention.mha import GroupedQuery, MultiHead, MultiQuery
from mtla_espnet.attention.mla import Latent
from mtla_espnet.attention.mtla import TemporalLatent
from mtla_espnet.attention.paper_call import StandAlone
from mtla_espnet.attention.torch_arguments import given, warn_of_sizes


class MultiheadAttention(StandAlone, MultiHead):
    """Multi-head attention with rotary positions.

    Args:
        embed_dim: d, model size.
        num_heads: H, divides d.
        dropout: of the attention weights, in training.
        bias: of the projections.
        **others: `device`, `dtype`, and what `torch.nn.MultiheadAttention` takes where it
            means what is done here, such as `batch_first=True`.
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True, **others):
        super().__init__(**given(locals()))


class GroupedQueryAttention(StandAlone, GroupedQuery):
    """Grouped-query attention with rotary positions.

    Args:
        embed_dim: d, model size.
        num_heads: H, divides d.
        dropout: of the attention weights, in training.
        bias: of the projections.
        num_kv_heads: G key/value heads, divides H.
        **others: `device`, `dtype`, and what `torch.nn.MultiheadAttention` takes where it
            means what is done here, such as `batch_first=True`.
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True, num_kv_heads=2, **others):
        super().__init__(**given(locals()))


class MultiQueryAttention(StandAlone, MultiQuery):
    """Multi-query attention with rotary positions: one key/value head.

    Args:
        embed_dim: d, model size.
        num_heads: H, divides d.
        dropout: of the attention weights, in training.
        bias: of the projections.
        **others: `device`, `dtype`, and what `torch.nn.MultiheadAttention` takes where it
            means what is done here, such as `batch_first=True`.
    """

    def __init__(self, embed_dim, num_heads, dropout=0.0, bias=True, **others):
        super().__init__(**given(locals()))


class MultiheadLatentAttention(StandAlone, Latent):
    """Multi-head latent attention with the paper's sizes, for embed_dim 512, as defaults.

    Args:
        embed_dim: d, model size.
        num_heads: H.
        dropout: of the attention weights, in training.
        bias: of the projections; that of `wkv_b` is never used.
        q_lora_rank: rank of a low-rank query projection; 0 is a full one.
        kv_lora_rank: r, width of the latent.
        qk_nope_head_dim: a head's width without position.
        qk_rope_head_dim: a head's rotary width, even.
        v_head_dim: a head's value width.
        **others: `device`, `dtype`, and what `torch.nn.MultiheadAttention` takes where it
            means what is done here, such as `batch_first=True`.
    """

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        bias=False,
        q_lora_rank=0,
        kv_lora_rank=256,
        qk_nope_head_dim=64,
        qk_rope_head_dim=32,
        v_head_dim=64,
        **others,
    ):
        warn_of_sizes(embed_dim, kv_lora_rank, qk_rope_head_dim)
        super().__init__(**given(locals()))


class MultiheadTemporalLatentAttention(StandAlone, TemporalLatent):
    """Multi-head temporal latent attention, called as in the paper's code.

    A state_dict of the PyPI package `mtla` loads with `strict=True` and gives the
    same output.

    Args:
        embed_dim: d, model size.
        num_heads: H.
        dropout: of the attention weights, in training.
        bias: of the projections; that of `wkv_b` is loaded and, as in the package, never used.
        q_lora_rank: rank of a low-rank query projection; 0 is a full one.
        kv_lora_rank: r, width of the latent.
        qk_nope_head_dim: a head's width without position.
        qk_rope_head_dim: a head's rotary width, even.
        v_head_dim: a head's value width.
        down_rate: s, positions merged into one cache slot.
        merge: `sum`, as in the paper, or `softmax`: of each channel over the chunk.
        **others: `device`, `dtype`, and what `torch.nn.MultiheadAttention` takes where it
            means what is done here, such as `batch_first=True`.

    Raises:
        ValueError: sizes that do not fit, or an argument that asks for something else.

    Example:
        >>> import torch
        >>> x = torch.randn(2, 64, 512); pos = torch.arange(0, 64).float().view(1, -1)
        >>> model = MultiheadTemporalLatentAttention(embed_dim=512, num_heads=8)
        >>> model(query=x, key=x, value=x, position=pos).shape
        torch.Size([2, 64, 512])
    """

    def __init__(
        self,
        embed_dim,
        num_heads,
        dropout=0.0,
        bias=False,
        q_lora_rank=0,
        kv_lora_rank=256,
        qk_nope_head_dim=64,
        qk_rope_head_dim=32,
        v_head_dim=64,
        down_rate=2,
        merge="sum",
        **others,
    ):
        warn_of_sizes(embed_dim, kv_lora_rank, qk_rope_head_dim)
        super().__init__(**given(locals()))
