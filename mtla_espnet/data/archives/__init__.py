"""Files that hold many utterances, each at its own place."""
