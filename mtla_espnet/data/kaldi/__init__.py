"""Kaldi's data directories: tables, checks, commands."""
