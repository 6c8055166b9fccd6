"""What decides which packages: py-rattler for conda, uv for PyPI."""
