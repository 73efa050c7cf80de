"""AMI: meetings."""
