"""Flight of the Amazon Queen: acted English of an adventure game."""
