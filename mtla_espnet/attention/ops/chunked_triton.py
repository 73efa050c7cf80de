"""What is done row by row around the attention over chunks, by Triton kernels.

Each function has a plain form of the same name and signature in `chunked_rows`.
"""

from mtla_espnet.attention.ops.chunked_backward_triton import backward_own, gather_gradients
from mtla_espnet.attention.ops.chunked_forward_triton import fold_query, merge_own

__all__ = ["backward_own", "fold_query", "gather_gradients", "merge_own"]
