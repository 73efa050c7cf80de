"""Checks of whole data directories, and mending."""
