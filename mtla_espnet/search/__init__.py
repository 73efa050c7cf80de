"""Decoding: from audio and a trained model to text, and what it costs."""
