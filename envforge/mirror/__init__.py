"""Mirror: a directory that holds exactly what lockfiles need, as channels and as a simple index.

:mod:`envforge.layout` says what belongs in it; ``artifacts`` gets that, ``publish`` puts it in place,
``writer`` keeps two of these from meeting, ``run`` is the verb.
"""

from envforge.layout.plan import LockfileInput
from envforge.mirror.run import MirrorOptions, MirrorResult, mirror

__all__ = ["LockfileInput", "MirrorOptions", "MirrorResult", "mirror"]
