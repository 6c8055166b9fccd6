"""Both sides of a merge, found in git, and one lockfile made of them."""

from __future__ import annotations

import os
import platform as machine
import posixpath
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from envforge.cli.console import Console, read_text
from envforge.cli.defaults import check_allowed, network, with_defaults
from envforge.cli.specs import base_of
from envforge.edges.git import blob_of, commits_with, git, merged_in, read_blob
from envforge.errors import AnswerNo, CouldNotError
from envforge.formats import conda_lock
from envforge.formats.specification import read_specification
from envforge.model.lockfile import Lockfile
from envforge.model.platforms import platform_of
from envforge.model.spec import EnvironmentSpec
from envforge.settings import load_settings

if TYPE_CHECKING:
    from envforge.lock.options import LockOptions

__all__ = ["Merge"]

_RESOLVE = "merge the specification, then: git checkout --ours {path} && envforge lock"
_NOTHING = EnvironmentSpec(name=None, channels=(), platforms=(), conda=())


@dataclass(frozen=True, kw_only=True)
class Merge:
    """One lockfile that both sides changed: three files, and its path from the top of the repository."""

    base: Path
    ours: Path
    theirs: Path
    path: str

    def merged(self, console: Console) -> tuple[Lockfile, str]:
        """The lockfile of the merged specification, and its text.

        :raises AnswerNo: if the specifications cannot be merged, or nothing satisfies what both ask for.
        :raises CouldNotError: if the specification of a side cannot be found, or a channel not be reached.
        :raises InputError: if a side is no lockfile.
        """
        from envforge.diff import newer
        from envforge.merge import merged_lockfile, merged_specification

        base, ours, theirs = (self._lockfile(file) for file in (self.base, self.ours, self.theirs))
        commits = self._commits()
        asked = [
            self._specification(commit, lockfile)
            for commit, lockfile in zip(commits, (base, ours, theirs), strict=True)
        ]
        spec = merged_specification(*asked)
        if not spec.sources:
            raise AnswerNo(
                "the lockfile does not say which specification it was made from",
                at=self.path,
                do=_RESOLVE.format(path=self.path),
            )
        lockfile = self._locked(spec, merged_lockfile(base, ours, theirs, newer), console)
        return lockfile, conda_lock.write(lockfile)

    def _lockfile(self, file: Path) -> Lockfile:
        if not file.stat().st_size:  # the common ancestor had none
            return Lockfile(packages=(), channels=(), platforms=())
        return conda_lock.read(read_text(file), source=self.path)

    def _locked(self, spec: EnvironmentSpec, previous: Lockfile, console: Console) -> Lockfile:
        from envforge.edges.fetch import Fetcher
        from envforge.lock.channels import asked_channels
        from envforge.lock.check import first_unmet
        from envforge.lock.options import targets_for
        from envforge.lock.run import lock
        from envforge.settings import cache_directory

        settings = load_settings()
        spec = with_defaults(spec, settings)
        options = _options(previous)
        check_allowed(asked_channels(spec, options, base_of(spec)), settings)
        targets = targets_for(spec, options, previous, platform_of(machine.system(), machine.machine()))
        place = Path(self.path).absolute().parent
        lockfile = lock(
            spec,
            targets,
            options=options,
            previous=previous,
            base=base_of(spec),
            sources=[
                posixpath.relpath(source, posixpath.dirname(self.path) or ".") for source in spec.sources
            ],
            cache=cache_directory(),
            fetcher=Fetcher(offline=options.offline, access=network()),
            reporter=console,
            place=place,
        )
        unmet = first_unmet(spec, lockfile, targets, options=options, base=base_of(spec), place=place)
        if unmet is not None:
            raise AnswerNo(unmet.what, at=unmet.at, do=_RESOLVE.format(path=self.path))
        return lockfile

    # -- the specifications ----------------------------------------------------------------------------

    def _commits(self) -> tuple[str, str, str]:
        """Those of the base, ours and theirs, that have these lockfiles."""
        one = self._commit(self.ours, "ours", ("HEAD",))
        other = self._commit(self.theirs, "theirs", merged_in())
        common = git("merge-base", one, other).stdout.strip()
        ancestors = [commit for commit in (f"{other}^", common) if commit]
        return next(commits_with(blob_of(self.base), self.path, ancestors), common), one, other

    def _commit(self, file: Path, side: str, likely: tuple[str, ...]) -> str:
        found = next(commits_with(blob_of(file), self.path, likely), None)
        if found is None:
            raise CouldNotError(
                f"no commit has the lockfile of {side}, so its specification is not known",
                at=self.path,
                do=_RESOLVE.format(path=self.path),
            )
        return found

    def _specification(self, commit: str, lockfile: Lockfile) -> EnvironmentSpec:
        """What the lockfile's specification said in ``commit``; nothing where it names none."""
        if not commit or not lockfile.sources:
            return _NOTHING
        options = _options(lockfile)
        beside = posixpath.dirname(self.path)

        def committed(path: str) -> str:
            return read_blob(f"{commit}:{posixpath.normpath(path)}").decode("utf-8", "replace")

        return read_specification(
            [posixpath.normpath(posixpath.join(beside, source)) for source in lockfile.sources],
            read=committed,
            environment=options.environment,
            python=options.python,
            variables=os.environ,
        )


def _options(lockfile: Lockfile) -> LockOptions:
    """What ``envforge lock`` does without an option, to renew ``lockfile``."""
    from envforge.cli.lock import command, lock_options

    return lock_options(command.make_context("lock", []).params, lockfile)
