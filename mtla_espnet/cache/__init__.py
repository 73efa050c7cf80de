"""The caches of decoding: one that grows and moves, and one of fixed shape for CUDA graphs."""
