"""A channel, an index and a specification in one directory, and ``lock`` called as a function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from envforge.demo.channel import ChannelBuilder
from envforge.demo.index import IndexBuilder, Wheel
from envforge.demo.packages import File, Package
from envforge.edges.fetch import Fetcher
from envforge.formats import conda_lock
from envforge.lock.check import first_unmet
from envforge.lock.options import LockOptions, targets_for
from envforge.lock.run import lock
from envforge.model.lockfile import Lockfile
from envforge.model.spec import EnvironmentSpec, Line
from envforge.reporting import Reporter

ALL = ("linux-64", "linux-aarch64", "osx-arm64")


def package(name: str, version: str = "1.0", *depends: str, **more: Any) -> Package:
    """A noarch package with one file."""
    given = {"subdir": "noarch", "noarch": "generic", "files": {f"share/{name}": File(data=b"x")}, **more}
    return Package(name=name, version=version, depends=depends, **given)


def brings(name: str, version: str, project: str, *depends: str, extras: Sequence[str] = ()) -> Package:
    """A conda package that brings the distribution of a PyPI project."""
    metadata = f"Metadata-Version: 2.1\nName: {project}\nVersion: {version}\n" + "".join(
        f"Provides-Extra: x\nRequires-Dist: {extra}; extra == 'x'\n" for extra in extras
    )
    folder = f"site-packages/{project.replace('-', '_')}-{version}.dist-info"
    return package(
        name, version, "python", *depends,
        noarch="python", files={f"{folder}/METADATA": File(data=metadata.encode())},
    )  # fmt: skip


def lines(*texts: str, group: str = "main", start: int = 1, **more: Any) -> Iterator[Line]:
    for number, text in enumerate(texts, start):
        yield Line(text=text, at=f"environment.yml:{number}", group=group, **more)


@dataclass
class World:
    """Everything that a lock is made of; ``lock`` returns what was read back from what was written."""

    root: Path
    platforms: tuple[str, ...] = ("linux-64",)
    conda: list[Line] = field(default_factory=list)
    pip: list[Line] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.channel = ChannelBuilder(self.root / "channel")
        self.index = IndexBuilder(self.root / "index")

    def add(self, *packages: Package) -> None:
        for one in packages:
            self.channel.add(one)
        self.channel.write_index()

    def add_python(self) -> None:
        self.add(*(package("python", "3.12.1", subdir=platform, noarch=None) for platform in ALL))

    def add_wheels(self, *wheels: Wheel) -> None:
        for one in wheels:
            self.index.add(one)
        self.index.write_index()

    def ask(self, *texts: str, group: str = "main", **more: Any) -> None:
        """Conda dependencies, in lines that follow."""
        self.conda += lines(*texts, group=group, start=1 + len(self.conda), **more)

    def ask_pip(self, *texts: str, group: str = "main", **more: Any) -> None:
        self.pip += lines(*texts, group=group, start=101 + len(self.pip), **more)

    def spec(self) -> EnvironmentSpec:
        given = EnvironmentSpec(
            name=None,
            channels=(self.channel.url,),
            platforms=self.platforms,
            conda=tuple(self.conda),
            pip=tuple(self.pip),
            indexes=(self.index.url,),
            sources=("environment.yml",),
        )
        return replace(given, **self.more)

    def lock(self, previous: Lockfile | None = None, **options: Any) -> Lockfile:
        chosen = LockOptions(**options)
        spec = self.spec()
        reporter = Reporter()
        made = lock(
            spec,
            targets_for(spec, chosen, previous, "linux-64"),
            options=chosen,
            previous=previous,
            base=self.root,
            sources=["environment.yml"],
            cache=self.root / "cache",
            fetcher=Fetcher(),
            reporter=reporter,
        )
        return conda_lock.read(conda_lock.write(made), source="conda-lock.yml")

    def unmet(self, lockfile: Lockfile, **options: Any) -> str | None:
        """What does not hold, and where, in one line; ``None`` if all does."""
        chosen = LockOptions(**options)
        spec = self.spec()
        targets = targets_for(spec, chosen, lockfile, "linux-64")
        found = first_unmet(spec, lockfile, targets, options=chosen, base=self.root)
        return None if found is None else f"{found.at}: {found.what}"


def groups(lockfile: Lockfile, platform: str = "linux-64") -> dict[str, str]:
    """The groups of each package, joined."""
    found: dict[str, str] = {}
    for row in lockfile.packages:
        if row.platform == platform:
            found[row.name] = f"{found[row.name]} {row.category}" if row.name in found else row.category
    return found


def versions(lockfile: Lockfile, platform: str = "linux-64") -> dict[str, str]:
    return {row.name: row.version for row in lockfile.packages if row.platform == platform}
