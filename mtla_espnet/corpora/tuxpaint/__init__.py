"""Tux Paint: spoken descriptions of stamps."""
