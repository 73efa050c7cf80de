"""What a recipe is: options, task, texts, tokens, places, configurations."""
