"""How jobs run: side by side, locked, marked, logged."""
