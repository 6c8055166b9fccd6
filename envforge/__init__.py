"""envforge carries a software environment from a laptop with internet to a cluster without it.

The command line (``envforge --help``) is the way in; the stages behind it are one module each.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
