"""The machine that runs a recipe's stages."""
