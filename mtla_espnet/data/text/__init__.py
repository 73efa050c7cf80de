"""Text: case, sentences, Moses' rules, token lists."""
