"""The stages of a recipe, with ESPnet's numbers, and what chooses and guards them."""
