"""The only doors to the world: sockets, programs, files from outside, the store."""
