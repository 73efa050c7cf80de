"""Reading and formatting of features."""
