"""Trained models: loading them, decoding recordings and data sets."""
