"""Attention kinds over several seeds on one recipe, compared with intervals."""
