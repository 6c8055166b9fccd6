"""Nouns: frozen data, no input or output."""
