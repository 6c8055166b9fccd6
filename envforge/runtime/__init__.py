"""The runtime that a bundle carries: a Python that runs envforge's node half, made without running it.

``wheels`` finds the wheels that the release pins, ``tree`` links what there is, ``selection`` says what is
kept of that, ``pack`` makes it one file, ``run`` is the verb.
"""

from envforge.runtime.run import MadeRuntime, make_runtime

__all__ = ["MadeRuntime", "make_runtime"]
