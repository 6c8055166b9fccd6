"""The PyPI half: uv resolves for a target, and its answers and failures become ours.

Nothing is imported here: where to look and what is asked are wanted quickly, and by those who never resolve.
"""
