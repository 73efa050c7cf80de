"""A page in the browser for trained models: speak or upload, read, and compare what it cost."""
