"""Data of a recipe: tables, checks, audio, features, token lists."""
