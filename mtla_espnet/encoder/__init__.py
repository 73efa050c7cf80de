"""Speech encoders: Conv1d sub-sampling before ESPnet's blocks."""
