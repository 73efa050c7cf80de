"""Tables and plots of measured results: reads and writes files only, without torch."""
