"""A corpus of your own, from a table, a folder of files or a data set of Hugging Face."""
