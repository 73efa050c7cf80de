"""Causal self-attention in five kinds: mha, mqa, gqa, mla, mtla."""
