"""Wheels that no index has: built on the laptop of sdists and projects, locked with all that made them."""
