"""Nouns for the tests of the formats: fixed ones, and hypothesis strategies for arbitrary ones."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import strategies as st

from envforge.errors import InputError
from envforge.model.lockfile import LockedChannel, LockedPackage, Lockfile
from envforge.model.manifest import Manifest, MirrorChannel, MirrorFile
from envforge.model.receipt import FileRecord, Receipt

GOLDEN = Path(__file__).parent / "golden"
A, B = "a" * 64, "b" * 64
FORGE = "https://conda.anaconda.org/conda-forge"


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.conda-lock.yml").read_text(encoding="utf-8")


def refused(call: Callable[[], object]) -> tuple[str, str | None, str | None]:
    """What, at and do of the error that ``call`` must end in."""
    with pytest.raises(InputError) as caught:
        call()
    return caught.value.what, caught.value.at, caught.value.do


def conda_row(name: str = "zlib", platform: str = "linux-64", **changes: object) -> LockedPackage:
    values: dict[str, object] = {
        "name": name,
        "version": "1.3",
        "manager": "conda",
        "platform": platform,
        "url": f"{FORGE}/{platform}/{name}-1.3-h1_0.conda",
        "sha256": A,
        "md5": "c" * 32,
        "dependencies": {"libgcc": ">=13", "__glibc": ">=2.17,<3.0.a0"},
    }
    return LockedPackage(**(values | changes))  # type: ignore[arg-type]


def lockfile(*packages: LockedPackage) -> Lockfile:
    return Lockfile(
        packages=packages or (conda_row(), conda_row("abc")),
        channels=(LockedChannel(url=FORGE),),
        platforms=("linux-64",),
        sources=("environment.yml",),
        content_hash={"linux-64": B},
        custom={"envforge.format": "1", "envforge.name": "demo"},
    )


manifest = Manifest(
    locks=("demo",),
    channels=(MirrorChannel(name="conda-forge", url=FORGE),),
    files=(
        MirrorFile(
            path="conda/conda-forge/linux-64/a-1-0.conda",
            sha256=A,
            size=10,
            url=f"{FORGE}/linux-64/a-1-0.conda",
        ),
        MirrorFile(path="locks/demo.json", sha256=B, size=0),
    ),
)
receipt = Receipt(
    prefix="/scratch/env",
    generation="/scratch/env.generations/3f2a9c",
    platform="linux-64",
    groups=("main",),
    lock=A,
    lockfile=B,
    tools={"uv": "0.13.0", "py-rattler": "0.28.0"},
    packages=(conda_row(),),
    files=(
        FileRecord(path="bin/python", kind="link", target="python3.12", owner="conda:python"),
        FileRecord(path="lib", kind="directory", mode=0o755, how="directory"),
        FileRecord(path="lib/caf\udce9", kind="file", mode=0o644, size=3, sha256=A, owner="conda:python"),
    ),
)

CONTROL: tuple[Literal["C", "Z"], ...] = ("C", "Z")
SURROGATES: tuple[Literal["Cs"], ...] = ("Cs",)

hexes = st.text("0123456789abcdef", min_size=64, max_size=64)
names = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,12}", fullmatch=True).filter(
    lambda n: n not in (".", "..")
)
words = st.text(string.ascii_letters + string.digits + "!.+_*-", min_size=1, max_size=8)
versions = st.text(string.ascii_letters + string.digits + "!.+_", min_size=1, max_size=8)
lines = st.text(st.characters(exclude_categories=CONTROL), min_size=1, max_size=12)
free = st.text(st.characters(exclude_categories=SURROGATES, exclude_characters="\0"), max_size=20)
platforms = st.sampled_from(("linux-64", "osx-arm64"))
mappings = st.dictionaries(names, st.text(string.printable[:95], max_size=10), max_size=3)


@st.composite
def packages(draw: st.DrawFn) -> LockedPackage:
    manager = draw(st.sampled_from(("conda", "pip")))
    platform, name, version = draw(platforms), draw(names), draw(versions)
    url = f"{FORGE}/{draw(st.sampled_from((platform, 'noarch')))}/{name}-{version}-0.tar.bz2"
    return LockedPackage(
        name=name,
        version=version,
        manager=manager,
        platform=platform,
        url=url if manager == "conda" else f"https://example.org/{name.replace('-', '_')}-1-py3-none-any.whl",
        sha256=draw(st.none() | hexes),
        md5=draw(hexes)[:32] if manager == "conda" else None,
        dependencies=draw(mappings),
        build=draw(st.none() | words),
        category=draw(names),
        optional=draw(st.booleans()),
    )


@st.composite
def lockfiles(draw: st.DrawFn) -> Lockfile:
    rows = draw(st.lists(packages(), max_size=4, unique_by=lambda package: package.key))
    channels = draw(
        st.lists(st.builds(LockedChannel, url=names, used_env_vars=st.lists(names).map(tuple)), max_size=2)
    )
    return Lockfile(
        packages=tuple(rows),
        channels=tuple(channels),
        platforms=tuple(sorted(draw(st.sets(platforms)))),
        sources=tuple(draw(st.lists(lines, max_size=2))),
        content_hash=draw(mappings),
        custom=draw(st.dictionaries(names, free, max_size=3)),
    )


paths = st.lists(
    st.text(st.characters(exclude_characters="/\\\0"), min_size=1, max_size=8).filter(
        lambda p: p not in (".", "..")
    ),
    min_size=1,
    max_size=3,
).map("/".join)
records = st.builds(
    FileRecord,
    path=paths,
    kind=st.sampled_from(("file", "link", "directory", "special")),
    mode=st.none() | st.integers(0, 0o7777),
    size=st.none() | st.integers(0, 1 << 62),
    sha256=st.none() | hexes,
    target=st.none() | st.text(max_size=8),
    owner=lines,
    how=lines,
)
receipts = st.builds(
    Receipt,
    prefix=paths.map("/".__add__),
    generation=paths.map("/".__add__),
    platform=platforms,
    groups=st.lists(lines, max_size=2).map(tuple),
    lock=hexes,
    lockfile=st.none() | hexes,
    tools=mappings,
    packages=st.lists(packages(), max_size=2).map(tuple),
    files=st.lists(records, max_size=4, unique_by=lambda record: record.path).map(
        lambda found: tuple(sorted(found, key=lambda record: record.path))
    ),
)
manifests = st.builds(
    Manifest,
    locks=st.lists(names, max_size=2).map(tuple),
    channels=st.lists(st.builds(MirrorChannel, name=names, url=lines), max_size=2).map(tuple),
    files=st.lists(
        st.builds(
            MirrorFile,
            path=paths.filter(str.isprintable),
            sha256=hexes,
            size=st.integers(0, 1 << 62),
            url=st.none() | lines,
        ),
        max_size=4,
        unique_by=lambda file: file.path,
    ).map(lambda found: tuple(sorted(found, key=lambda file: file.path))),
)
