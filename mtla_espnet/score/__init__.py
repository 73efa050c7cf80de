"""Quality and cost of a decode: reads and writes files only, without torch."""
