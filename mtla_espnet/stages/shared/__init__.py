"""What the bodies of several stages use."""
