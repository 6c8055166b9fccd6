"""Mirror: a directory that holds exactly what lockfiles need, as channels and as a simple index.

``plan`` decides what belongs in it, ``artifacts`` gets that, ``pages`` derives everything else from it,
``publish`` puts it in place, ``writer`` keeps two of these from meeting, ``run`` is the verb.
"""

from envforge.mirror.plan import LockfileInput
from envforge.mirror.run import MirrorOptions, MirrorResult, mirror

__all__ = ["LockfileInput", "MirrorOptions", "MirrorResult", "mirror"]
