"""Data directories of a recipe: tables, checks, audio, token lists."""
