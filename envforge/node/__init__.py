"""Verbs of the node, which run with no network and little more than the standard library."""
