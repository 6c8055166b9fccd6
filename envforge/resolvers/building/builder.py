"""Building wheels on the laptop: of the sdists that a person named, and of projects in a specification.

What is locked is the wheel and everything that made it; that a second build comes to the same bytes is tried
before it is locked.  Whoever lacks the wheel later builds it again, and it is that wheel or an error.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from packaging.utils import parse_wheel_filename

from envforge.edges.archive import checked_wheel
from envforge.edges.building import canonical_wheel
from envforge.edges.fetch import Fetcher
from envforge.edges.hashing import file_sha256
from envforge.errors import CouldNotError
from envforge.model.access import Access
from envforge.model.built import BUILT, BuiltWheel, built_wheels
from envforge.model.lockfile import Lockfile
from envforge.model.urls import redacted, without_secrets
from envforge.reporting import Reporter
from envforge.resolvers.building.backend import Uv, lock_requires, make_environment, read_build_system
from envforge.resolvers.building.sources import Checkout, Project, Sdist, Source, source_of, unpacked

__all__ = ["Builder", "BuildingFetcher", "Checkout", "Project", "Sdist", "Uv"]


class Builder:
    """Builds wheels, one at a time, and keeps them in a cache by their sha256.

    :param cache: the directory of the laptop's half.
    """

    def __init__(self, uv: Uv, *, cache: Path, fetcher: Fetcher, reporter: Reporter) -> None:
        self._uv = uv
        self._kept = cache.absolute() / "built"
        self._fetcher = fetcher
        self._reporter = reporter
        self._lock = Lock()
        self._done: dict[tuple[str, str], BuiltWheel] = {}

    def path(self, built: BuiltWheel) -> Path:
        """Where the wheel lies, if it was built on this machine."""
        return self._kept / built.sha256 / built.filename

    def build(self, source: Source, python: str, known: BuiltWheel | None) -> BuiltWheel:
        """A wheel of ``source``, built twice, locked with what built it.

        :param python: the X.Y of the environment.
        :param known: what an earlier lock says: its versions of build requirements are kept where they fit,
            and its wheel where it is at hand and of this very sdist.
        :raises CouldNotError: if it cannot be built, or two builds differ.
        :raises InputError: for what is no sdist and no project.
        """
        key = (str(source.path) if isinstance(source, Project) else source.source, python)
        with self._lock:
            if key not in self._done:
                self._done[key] = self._again(source, python, known) or self._new(source, python, known)
            return self._done[key]

    def _again(self, source: Source, python: str, known: BuiltWheel | None) -> BuiltWheel | None:
        if known is None or isinstance(source, Project):
            return None
        if known.python != self._uv.python(python, Path(tempfile.gettempdir()))[1]:
            return None
        sha256 = source.sha256 if isinstance(source, Sdist) else None
        same = (known.source, known.source_sha256) == (source.source, sha256)
        return known if same and self._is_there(known) else None

    def _is_there(self, built: BuiltWheel) -> bool:
        path = self.path(built)
        return path.is_file() and file_sha256(path) == built.sha256

    def _new(self, source: Source, python: str, known: BuiltWheel | None) -> BuiltWheel:
        name = source.label
        self._reporter.note(f"building {name}: its own code runs on this machine")
        with tempfile.TemporaryDirectory(prefix="envforge-build-") as directory:
            work = Path(directory)
            tree, epoch = unpacked(source, work, "one", self._fetcher)
            system = read_build_system(tree, name)
            interpreter, version = self._uv.python(python, work)
            pins = known.requires if known is not None else ()
            requires = lock_requires(self._uv, system.requires, version, pins, work=work, name=name)
            made = make_environment(self._uv, interpreter, requires, work=work, name=name)
            more = made.dynamic_requires(tree, system)
            if more:
                wanted = (*system.requires, *more)
                requires = lock_requires(self._uv, wanted, version, pins, work=work, name=name)
                made = make_environment(self._uv, interpreter, requires, work=work, name=name)
            wheels = [canonical(made.build_wheel(tree, system, work / "out-1", epoch=epoch), work / "1")]
            # In another directory: what the place of a build leaves in a wheel differs, too.
            other, _ = unpacked(source, work, "another-one", self._fetcher)
            wheels.append(canonical(made.build_wheel(other, system, work / "out-2", epoch=epoch), work / "2"))
            built = BuiltWheel(
                filename=wheels[0].name,
                sha256=file_sha256(wheels[0]),
                source=source.source,
                source_sha256=source.sha256 if isinstance(source, Sdist) else None,
                python=version,
                epoch=epoch,
                requires=requires,
                indexes=tuple(without_secrets(url, tokens=False) for url in self._uv.indexes),
            )
            _check_same(wheels[0], wheels[1], name)
            _check_name(built, source, name)
            self._keep(wheels[0], built)
        return built

    def rebuild(self, built: BuiltWheel, base: Path) -> Path:
        """The wheel that was locked: from the cache, or built again with what built it.

        :param base: the lockfile's directory, which a project's path is relative to.
        :raises CouldNotError: if it cannot be built, or another wheel comes out.
        """
        with self._lock:
            if not self._is_there(built):
                self._rebuild(built, base)
            return self.path(built)

    def _rebuild(self, built: BuiltWheel, base: Path) -> None:
        name = f"{built.name} {built.version}"
        self._reporter.note(f"building {name} again: its own code runs on this machine")
        source = source_of(built, base)
        with tempfile.TemporaryDirectory(prefix="envforge-build-") as directory:
            work = Path(directory)
            tree, _ = unpacked(source, work, "one", self._fetcher)
            system = read_build_system(tree, name)
            interpreter, _ = self._uv.python(built.python, work)
            made = make_environment(self._uv, interpreter, built.requires, work=work, name=name)
            wheel = canonical(made.build_wheel(tree, system, work / "out", epoch=built.epoch), work / "1")
            found = file_sha256(wheel)
            if found != built.sha256 or wheel.name != built.filename:
                raise CouldNotError(
                    f"{built.source} builds another wheel than the one that is locked: {wheel.name} {found}",
                    at=f"{built.filename} {built.sha256}",
                    do="envforge lock   # locks what it is now",
                )
            self._keep(wheel, built)

    def _keep(self, wheel: Path, built: BuiltWheel) -> None:
        final = self.path(built)
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            beside = final.with_name(f".{final.name}.{os.getpid()}")
            shutil.copyfile(wheel, beside)
            beside.replace(final)
        except OSError as error:
            raise CouldNotError(
                f"cannot write to the cache: {error.strerror or error}", at=str(final)
            ) from error


def canonical(wheel: Path, directory: Path) -> Path:
    """The wheel in its canonical form, in the new ``directory``."""
    directory.mkdir()
    canonical_wheel(wheel, directory / wheel.name)
    return directory / wheel.name


def _check_same(one: Path, other: Path, name: str) -> None:
    if one.name == other.name and file_sha256(one) == file_sha256(other):
        return
    differing = [] if one.name == other.name else [one.name, other.name]
    with (
        checked_wheel(one, one.name) as (first, members, _),
        checked_wheel(other, other.name) as (second, _, _),
    ):
        there = set(second.namelist())
        for member in members:
            if member.filename.endswith("/RECORD"):
                continue
            if member.filename not in there or first.read(member) != second.read(member.filename):
                differing.append(member.filename)
    raise CouldNotError(
        f"two builds of {name} differ, so nobody could prove where the wheel came from: "
        f"{', '.join(differing[:3]) or 'in their files'}",
        at=name,
        do="build a wheel of it once, put it on an index, and require NAME==VERSION; or take it from conda",
    )


def _check_name(built: BuiltWheel, source: Source, name: str) -> None:
    _, version, _, _ = parse_wheel_filename(built.filename)
    if not isinstance(source, Sdist):
        return
    if source.name not in (None, built.name) or source.version not in (None, str(version)):
        raise CouldNotError(f"{name} builds something else: {built.filename}", at=redacted(source.url))


class BuildingFetcher(Fetcher):
    """A fetcher that also has the wheels that were built: from the cache, or built again.

    :param lockfiles: each with the directory that it lies in.
    """

    def __init__(
        self,
        lockfiles: Iterable[tuple[Lockfile, Path]],
        *,
        cache: Path,
        reporter: Reporter,
        access: Access | None = None,
    ) -> None:
        super().__init__(access=access)
        self._known = {
            built.sha256: (built, base) for lockfile, base in lockfiles for _, built in built_wheels(lockfile)
        }
        self._cache = cache
        self._reporter = reporter

    def locate(self, url: str, sha256: str | None) -> str:
        """As any fetcher's; a wheel that was built is where it is kept, and built again if it is not.

        :raises CouldNotError: if it cannot be built again.
        """
        if not url.startswith(BUILT):
            return url
        if sha256 not in self._known:
            raise CouldNotError(
                f"{url.removeprefix(BUILT)} was built when it was locked, and is not here",
                at=url,
                do="mirror its own lockfile again, where that was made",
            )
        built, base = self._known[sha256]
        uv = Uv(cache=self._cache / "uv", indexes=built.indexes, exclude_newer=None, offline=False)
        builder = Builder(uv, cache=self._cache, fetcher=self, reporter=self._reporter)
        return builder.rebuild(built, base).as_uri()
