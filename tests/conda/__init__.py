"""Solving for conda: what cannot be had, what would be better, what is assumed, real channels."""
