"""Data of Fairseq S2T, read and written."""
