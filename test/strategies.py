"""What the laws draw: kinds of attention, ragged batches."""

import torch
from hypothesis import strategies as st

from mtla_espnet.attention.kinds import attention_class

HEADS = 4
SIZE = 32

# every kind, mtla at each down_rate that the paper tries, with and without low-rank queries
KINDS = [
    ("mha", {}),
    ("mqa", {}),
    ("gqa", {"num_kv_heads": 2}),
    ("mla", {}),
    ("mla", {"q_lora_rank": 12}),
    ("gla", {}),
    ("gla", {"num_latent_groups": 4, "q_lora_rank": 12}),
    ("mtla", {"down_rate": 1}),
    ("mtla", {"down_rate": 2}),
    ("mtla", {"down_rate": 3, "q_lora_rank": 12}),
    ("mtla", {"down_rate": 4, "bias": True}),
    ("mtla", {"down_rate": 2, "merge": "softmax"}),
    ("mtla", {"down_rate": 3, "merge": "softmax", "q_lora_rank": 12}),
    ("mla", {"latent_norm": False, "rope_frequencies": [1.5, 0.02]}),
    ("mtla", {"down_rate": 3, "latent_norm": False, "rope_frequencies": [0.3, 0.3], "bias": True}),
]

kinds = st.sampled_from(KINDS)
seeds = st.integers(0, 2**31 - 1)


def build(kind, seed=0, dtype=torch.float32):
    """An attention of random weights, in evaluation mode."""
    name, options = kind
    torch.manual_seed(seed)
    module = attention_class(name)(SIZE, HEADS, **options).eval().to(dtype)
    for parameter in module.parameters():  # LayerNorms and biases of 1 and 0 hide mistakes
        parameter.data += 0.1 * torch.randn_like(parameter)
    return module


def lengths(most=11, least=1, rows=4):
    """Lengths of a ragged batch."""
    return st.lists(st.integers(least, most), min_size=1, max_size=rows)


def build_decoder(kind, vocabulary, prefix="static", seed=0, **options):
    """A decoder of two small layers with random weights, in evaluation mode."""
    from mtla_espnet.decoder.decoder_only import DecoderOnly  # imports ESPnet; attention does not

    torch.manual_seed(seed)
    name, conf = kind
    return DecoderOnly(
        vocabulary,
        SIZE,
        attention=name,
        attention_conf=conf,
        attention_heads=HEADS,
        linear_units=48,
        num_blocks=2,
        prefix=prefix,
        **options,
    ).eval()


YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["mha", "ä", "a b", ""]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcde"), inner, max_size=3)
    ),
)
