"""``import``: another tool's lockfile, an environment that is there, or an archive of one, as a lockfile."""

from envforge.importing.installed import is_installed, read_prefix
from envforge.importing.reading import read_lock
from envforge.importing.run import Imported, ImportOptions, import_lock

__all__ = ["ImportOptions", "Imported", "import_lock", "is_installed", "read_lock", "read_prefix"]
