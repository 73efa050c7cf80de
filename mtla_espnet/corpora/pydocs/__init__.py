"""Pydocs: documentation of Python packages."""
