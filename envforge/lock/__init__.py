"""``lock``: from a specification to a lockfile, for the cluster's platforms and not for this machine.

Conda is solved first.  Every Python distribution that a chosen conda package brings is then given to uv as
settled, so that PyPI adds to it and never replaces it.
"""
