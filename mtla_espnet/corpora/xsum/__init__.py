"""XSum: summaries of news."""
