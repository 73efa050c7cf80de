"""From audio to features: inside the model, and ahead of training by the same functions."""
