"""MuST-C: translated talks."""
