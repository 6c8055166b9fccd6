"""Making the tree of an environment out of the store: every file, for the path that it will have."""
