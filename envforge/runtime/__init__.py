"""The runtime that a bundle carries: a Python that runs envforge's node half, made without running it.

``wheels`` finds the wheels that the release pins, ``tree`` links what there is, ``selection`` and ``own`` say
what goes in of that and of envforge, ``pack`` makes it one file, ``kept`` keeps that, ``run`` is the verb.
"""

from envforge.model.runtime import MadeRuntime
from envforge.runtime.run import make_runtime

__all__ = ["MadeRuntime", "make_runtime"]
