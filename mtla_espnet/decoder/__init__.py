"""The decoder-only stack in place of ESPnet's decoder."""
