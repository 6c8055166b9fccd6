"""What lies on disk, and whether it is what was installed."""
