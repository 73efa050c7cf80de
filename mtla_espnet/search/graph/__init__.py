"""The beam search of a GPU, replayed as a CUDA graph."""
