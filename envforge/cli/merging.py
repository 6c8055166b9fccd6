"""Both sides of a merge, found in git, and one lockfile made of them."""

from __future__ import annotations

import platform as machine
import posixpath
from dataclasses import dataclass
from pathlib import Path

from envforge.cli.console import Console, read_text
from envforge.edges.git import blob_at, blob_of, commits_with, git, merged_in, read_blob
from envforge.errors import AnswerNo, CouldNotError
from envforge.formats import conda_lock, environment_yml
from envforge.model.lockfile import Lockfile
from envforge.model.platforms import platform_of
from envforge.model.spec import EnvironmentSpec

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

        ours, theirs = self._lockfile(self.ours), self._lockfile(self.theirs)
        base = self._lockfile(self.base) if self.base.stat().st_size else _empty(ours)
        spec = merged_specification(*self._specifications(ours, theirs))
        previous = merged_lockfile(base, ours, theirs, newer)
        lockfile = self._locked(spec, previous, console)
        return lockfile, conda_lock.write(lockfile)

    def _lockfile(self, file: Path) -> Lockfile:
        return conda_lock.read(read_text(file), source=self.path)

    def _locked(self, spec: EnvironmentSpec, previous: Lockfile, console: Console) -> Lockfile:
        from envforge.cli.lock import command, lock_options
        from envforge.edges.fetch import Fetcher
        from envforge.lock.check import first_unmet
        from envforge.lock.options import targets_for
        from envforge.lock.run import lock
        from envforge.settings import cache_directory

        usual = command.make_context("lock", []).params
        options = lock_options(usual, previous)
        targets = targets_for(spec, options, previous, platform_of(machine.system(), machine.machine()))
        place = Path(self.path).absolute().parent
        directory = (place / previous.sources[0]).parent
        lockfile = lock(
            spec,
            targets,
            options=options,
            previous=previous,
            base=directory,
            sources=previous.sources,
            cache=cache_directory(),
            fetcher=Fetcher(offline=options.offline),
            reporter=console,
            place=place,
        )
        unmet = first_unmet(spec, lockfile, targets, options=options, base=directory, place=place)
        if unmet is not None:
            raise AnswerNo(unmet.what, at=unmet.at, do=_RESOLVE.format(path=self.path))
        return lockfile

    # -- the specifications ----------------------------------------------------------------------------

    def _specifications(
        self, ours: Lockfile, theirs: Lockfile
    ) -> tuple[EnvironmentSpec, EnvironmentSpec, EnvironmentSpec]:
        """Those of the base, ours and theirs, as they were when the lockfiles were committed."""
        if len(ours.sources) != 1 or ours.sources != theirs.sources:
            raise AnswerNo(
                "the two lockfiles were not made from the same one specification",
                at=f"{self.path}: {', '.join(ours.sources)}; {', '.join(theirs.sources)}",
                do=_RESOLVE.format(path=self.path),
            )
        source = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), ours.sources[0]))
        one = self._commit(self.ours, "ours", ("HEAD",))
        other = self._commit(self.theirs, "theirs", merged_in())
        common = git("merge-base", one, other).stdout.strip()
        ancestors = [commit for commit in (f"{other}^", common) if commit]
        base = next(commits_with(blob_of(self.base), self.path, ancestors), common)
        return (
            self._specification(base, source, missing=_NOTHING),
            self._specification(one, source),
            self._specification(other, source),
        )

    def _commit(self, file: Path, side: str, likely: tuple[str, ...]) -> str:
        found = next(commits_with(blob_of(file), self.path, likely), None)
        if found is None:
            raise CouldNotError(
                f"no commit has the lockfile of {side}, so its specification is not known",
                at=self.path,
                do=_RESOLVE.format(path=self.path),
            )
        return found

    def _specification(
        self, commit: str, source: str, missing: EnvironmentSpec | None = None
    ) -> EnvironmentSpec:
        if missing is not None and (not commit or blob_at(commit, source) is None):
            return missing
        text = read_blob(f"{commit}:{source}").decode("utf-8", "replace")
        return environment_yml.read(text, source=source)


def _empty(like: Lockfile) -> Lockfile:
    return Lockfile(packages=(), channels=like.channels, platforms=())
