"""Text to nouns and back, one module for each file format and version."""
