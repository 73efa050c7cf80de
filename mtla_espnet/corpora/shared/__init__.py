"""What several corpora use."""
