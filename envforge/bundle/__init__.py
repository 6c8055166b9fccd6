"""Bundle: one file that carries one environment for one platform.

A header that is a shell program, then a plain tar: the runtime, the manifest, and the part of a mirror that
the environment needs.  ``parts`` works out what that is, ``file`` writes it, ``run`` is the verb.  Everything
is a function of the lock, the artifacts and the release.
"""

from envforge.bundle.parts import CarriedRuntime
from envforge.bundle.run import BundleOptions, BundlePreview, BundleResult, bundle, preview

__all__ = ["BundleOptions", "BundlePreview", "BundleResult", "CarriedRuntime", "bundle", "preview"]
