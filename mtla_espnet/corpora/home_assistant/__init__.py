"""Home Assistant: commands of its intents, synthetic speech."""
