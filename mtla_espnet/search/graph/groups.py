"""Numbers that the selection of tokens and its kernels share."""

import torch

GROUP = 32  # tokens whose best one stands for them at first
LEAST = torch.finfo(torch.float64).min
