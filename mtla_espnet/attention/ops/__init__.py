"""Operators of attention: a plain form, and beside it a Triton form of the same signature."""
