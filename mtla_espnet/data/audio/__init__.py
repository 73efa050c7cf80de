"""Reading, cutting and formatting of audio."""
