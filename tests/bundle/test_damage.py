"""Bundles that were altered on their way, or made to do harm: nothing of them is ever used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import random
import tarfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envforge.edges.tarball import member_header
from envforge.edges.unpack import unpack_runtime
from envforge.edges.ustar import END, padding
from envforge.errors import CouldNotError, InputError
from envforge.formats import bundle_header, bundle_json, manifest_json
from envforge.model.bundle import HEADER_SIZE, Header
from envforge.model.manifest import Manifest, MirrorFile
from envforge.node.sources.bundles import Bundle
from tests.bundle.conftest import Carried
from tests.bundle.real import SMALL, publish
from tests.conftest import Shell
from tests.node.world import HERE, conda, library, run_all, snapshot

DEEP = bool(os.environ.get("ENVFORGE_LAB_DEEP"))
quick = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle without a runtime."""
    root = tmp_path_factory.mktemp("small")
    lock = publish(root / "site", conda(library("a", {"share/a": b"a"})))
    shell = Shell(root, root)
    assert run_all(shell, [(*SMALL, "small.sh", lock)])[0].status == 0
    return root / "small.sh"


def is_refused(path: Path, name: str | None = None) -> bool:
    """Whether the bundle is refused, or that member of it found to be another, or any."""
    try:
        bundle = Bundle(path)
        if name is not None:
            return not bundle.holds(name)
        return bool(bundle.check())
    except (InputError, CouldNotError) as error:
        return bool(error.do and error.at)


# -- what fell over ------------------------------------------------------------------------------------


def test_every_byte_of_a_small_bundle(small: Path, tmp_path: Path) -> None:
    """``ENVFORGE_LAB_DEEP=1``: every one, by one bit and by many; else those that a generator chooses."""
    whole, path = small.read_bytes(), tmp_path / "b.sh"
    positions: Iterable[int] = range(len(whole))
    if not DEEP:
        choose = random.Random(4)
        positions = [
            *choose.sample(range(HEADER_SIZE), 50),
            *choose.sample(range(HEADER_SIZE, len(whole)), 400),
        ]
    path.write_bytes(whole)
    assert not is_refused(path)
    with path.open("r+b", buffering=0) as file:
        for position in positions:
            for mask in (1 << position % 8, 0xFF):
                os.pwrite(file.fileno(), bytes([whole[position] ^ mask]), position)
                assert is_refused(path), f"byte {position} ^ {mask}"
            os.pwrite(file.fileno(), whole[position : position + 1], position)
    assert not is_refused(path)


def test_it_is_refused_by_the_command_line_in_three_lines(small: Path, envforge: Shell) -> None:
    whole = small.read_bytes()
    (package,) = [name for name in Bundle(small).members if name.endswith(".conda")]
    member = Bundle(small).members[package]
    manifest = Bundle(small).header.manifest_at
    places = [
        100,
        HEADER_SIZE,
        manifest,
        manifest + 100,
        member.offset - 1,
        member.offset + 7,
        len(whole) - 1,
    ]
    for number, position in enumerate(places):
        changed = whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :]
        (envforge.cwd / f"{number}.sh").write_bytes(changed)
    calls: list[Sequence[object]]
    calls = [("install", f"{number}.sh", "--prefix", f"p{number}") for number in range(len(places))]
    calls += [("extract", f"{number}.sh", f"x{number}") for number in range(len(places))]
    calls += [("verify", f"{number}.sh") for number in range(len(places))]
    done = run_all(envforge, calls)
    for one in done[: -len(places)]:
        one.assert_error(2, "damaged", ".sh")
    for one in done[-len(places) :]:
        if one.status == 1:
            assert f"changed  {package}" in one.out
        else:
            one.assert_error(2, "damaged")
    assert [one.status for one in done[-len(places) :]].count(1) == 1
    assert not [
        path for path in envforge.cwd.iterdir() if path.name.startswith((".", "x")) or path.is_symlink()
    ]


def test_two_thousand_bytes_of_one_with_a_runtime(carried: Carried, tmp_path: Path) -> None:
    """Spread over every member, its header and what fills its last block."""
    path = tmp_path / "b.sh"
    path.write_bytes(carried.bundle.read_bytes())
    bundle = Bundle(path)
    choose = random.Random(2000)
    each = (2000 if DEEP else 250) // len(bundle.members) + 1
    size = path.stat().st_size
    with path.open("r+b", buffering=0) as file:
        for name, member in bundle.members.items():
            end = member.offset + member.size
            places = [choose.randrange(member.offset - 512, end + -member.size % 512) for _ in range(each)]
            for position in {member.offset, end - 1, *places}:
                (byte,) = os.pread(file.fileno(), 1, position)
                os.pwrite(file.fileno(), bytes([byte ^ 1 << position % 8]), position)
                assert is_refused(path, name), f"{name}: byte {position}"
                os.pwrite(file.fileno(), bytes([byte]), position)
        for position in range(size - 1024, size, 64):
            os.pwrite(file.fileno(), b"\1", position)
            assert is_refused(path, "manifest.json")
            os.pwrite(file.fileno(), b"\0", position)


def test_truncated_or_longer(small: Path, tmp_path: Path) -> None:
    whole, path = small.read_bytes(), tmp_path / "b.sh"
    for length in range(0, len(whole), 512):
        path.write_bytes(whole[:length])
        assert is_refused(path), f"the first {length} bytes"
    for more in (b"\0", b"\0" * 512, b"\0" * 10240, b"x", whole):
        path.write_bytes(whole + more)
        assert is_refused(path), f"{more[:9]!r} follow"


# -- what was made to do harm ----------------------------------------------------------------------------


def sealed(path: Path, members: bytes, manifest: bytes) -> None:
    """Write a bundle whose header is right for the manifest, and anything after that."""
    header = Header(
        version="0.0.1", platform=HERE, name="evil",
        manifest=hashlib.sha256(manifest).hexdigest(),
        manifest_at=HEADER_SIZE + 512, manifest_size=len(manifest),
    )  # fmt: skip
    first = member_header("manifest.json", len(manifest)) + manifest + padding(len(manifest))
    path.write_bytes(bundle_header.write(header) + first + members + END)


def listed(files: dict[str, bytes]) -> bytes:
    """A manifest that is right about ``files``."""
    rows = [
        {"path": name, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
        for name, data in files.items()
    ]
    document = json.loads(manifest_json.write(Manifest(locks=("evil",), channels=(), files=())))
    return json.dumps(document | {"files": rows}).encode()


def member(name: str, data: bytes = b"x", **values: object) -> bytes:
    """A member as tarfile writes it, with any values."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(data), 315_532_800, 0o644
    for key, value in values.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict") + data + padding(len(data))


def refused(path: Path, place: Path, *words: str) -> None:
    """The bundle is refused by those who list and those who extract, and nothing is written."""
    place.mkdir(exist_ok=True)
    with pytest.raises(InputError) as caught:
        Bundle(path).extract(place / "x")
    assert caught.value.do
    for word in words:
        assert word in str(caught.value), caught.value
    assert list(place.iterdir()) == []


NAMES = ["/etc/x", "../x", "a/../../x", "./x", "a//b", "a/", "..", ".", "C:/x", "a/./b", "conda/../../../x"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_leave(tmp_path: Path, name: str) -> None:
    sealed(tmp_path / "b.sh", member(name), listed({name: b"x"}))
    refused(tmp_path / "b.sh", tmp_path / "place")
    # The tar alone is enough to be refused.
    sealed(tmp_path / "b.sh", member(name), listed({}))
    refused(tmp_path / "b.sh", tmp_path / "place")


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (member("a", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "no regular file"),
        (member("a", b"", type=tarfile.LNKTYPE, linkname="manifest.json"), "no regular file"),
        (member("a", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=3), "no regular file"),
        (member("a", b"", type=tarfile.BLKTYPE), "no regular file"),
        (member("a", b"", type=tarfile.FIFOTYPE), "no regular file"),
        (member("a", b"", type=tarfile.DIRTYPE), "no regular file"),
        (member("a", type=tarfile.AREGTYPE), "no regular file"),
        (member("a", type=tarfile.GNUTYPE_SPARSE), "no regular file"),
        (member("a", mode=0o4755), "not one that envforge writes"),
        (member("a", uid=7, uname="ada"), "not one that envforge writes"),
        (member("a", mtime=1), "not one that envforge writes"),
        (member("a", pax_headers={"comment": "x"}), "damaged"),
        (member("a", pax_headers={"path": "../x"}), "does not stay inside"),
        (member("a", pax_headers={"size": "0"}), "damaged"),
        (member("a", pax_headers={"GNU.sparse.realsize": "9" * 18}), "damaged"),
        (member("a") * 2, "twice"),
        (member("a") + member("A"), "twice"),
        (member("Ä") + member("A\u0308"), "twice"),
        (member("ﬁ") + member("fi"), "twice"),
        (member("manifest.json"), "twice"),
        (member_header("a", 1 << 62), "claims"),
        (member_header("a", (1 << 63) - 1), "claims"),
        (member("a", b"", pax_headers={"size": str(1 << 63)}), "damaged"),
        (member("a", b"", pax_headers={"size": "9" * 30}), "damaged"),
        (member("a", b"", pax_headers={"size": "-1"}), "damaged"),
        (b"\x80" * 512, "damaged"),
        (b"x" * 512, "damaged"),
        (member_header("a" * 200, 1)[:1024] * 9, "damaged"),
        (member("a")[:512] + b"xy" + bytes(510), "follows"),
    ],
)
def test_members_that_are_none(tmp_path: Path, made: bytes, words: str) -> None:
    sealed(tmp_path / "b.sh", made, listed({"a": b"x"}))
    refused(tmp_path / "b.sh", tmp_path / "place", words)


@pytest.mark.parametrize(
    ("files", "there", "words"),
    [
        ({"a": b"x"}, {}, "do not agree about a"),
        ({}, {"a": b"x"}, "do not agree about a"),
        ({"a": b"xy"}, {"a": b"x"}, "do not agree about a"),
        ({"a": b"y"}, {"a": b"x"}, "bundle.json"),
        ({"bundle.json": b"{}"}, {"bundle.json": b"{]"}, "bundle.json in it was altered"),
        ({"bundle.json": b"{}"}, {"bundle.json": b"{}"}, ""),
        ({"bundle.json": b"\xff"}, {"bundle.json": b"\xff"}, "not text"),
        ({"bundle.json": b"[" * 9000}, {"bundle.json": b"[" * 9000}, ""),
        ({"runtime.tar.gz": b"x"}, {"runtime.tar.gz": b"x"}, "bundle.json"),
    ],
)
def test_a_manifest_that_lies(
    tmp_path: Path, files: dict[str, bytes], there: dict[str, bytes], words: str
) -> None:
    sealed(tmp_path / "b.sh", b"".join(member(name, data) for name, data in there.items()), listed(files))
    refused(tmp_path / "b.sh", tmp_path / "place", words)


def rewritten(small: Path, path: Path, changed: Mapping[str, bytes]) -> None:
    """The small bundle with other files, and a manifest and header that are right about them."""
    bundle = Bundle(small)
    files = {entry.path: b"" for entry in bundle.manifest.files}
    whole = small.read_bytes()
    for name in files:
        found = bundle.members[name]
        files[name] = whole[found.offset : found.offset + found.size]
    files |= changed
    rows = {entry.path: entry for entry in bundle.manifest.files}
    entries = tuple(
        replace(
            rows.get(name, MirrorFile(path=name, sha256="0" * 64, size=0)),
            sha256=hashlib.sha256(data).hexdigest(),
            size=len(data),
        )
        for name, data in sorted(files.items())
    )
    manifest = manifest_json.write(replace(bundle.manifest, files=entries)).encode()
    sealed(path, b"".join(member(name, data) for name, data in sorted(files.items())), manifest)


def test_a_bundle_json_that_lies(small: Path, envforge: Shell) -> None:
    contents = Bundle(small).contents
    lies = {
        "lock": {"lock": "0" * 64},
        "name": {"name": "../../etc/passwd"},
        "elsewhere": {"platform": "linux-aarch64" if HERE == "linux-64" else "linux-64"},
        "groups": {"groups": ("x",)},
        "runtime": {"runtime": "1" * 64},
        "huge": {"bytes": 10**18, "files": 10**18},
    }
    for name, lie in lies.items():
        text = bundle_json.write(replace(contents, **lie)).encode()  # type: ignore[arg-type]
        rewritten(small, envforge.cwd / f"{name}.sh", {"bundle.json": text})
    rewritten(small, envforge.cwd / "right.sh", {})
    calls = [("install", f"{name}.sh", "--prefix", f"p-{name}") for name in (*lies, "right")]
    *done, right = run_all(envforge, calls)
    assert right.status == 0, right.err
    words = (
        "not the one that it was made of",
        "has no locks/",
        "is for linux-",
        "no group x",
        "runtime.tar.gz",
    )
    for one, word in zip(done, words, strict=False):
        assert one.status in (2, 3)
        one.assert_error(one.status, word)
    found = {path.name for path in envforge.cwd.iterdir() if not path.name.endswith(".sh")}
    assert found <= {
        "p-right",
        "p-right.generations",
        "p-huge",
        "p-huge.generations",
        "p-runtime.generations",
    }
    assert not (envforge.cwd / "p-runtime").exists()


def test_a_package_that_is_not_the_locked_one(small: Path, envforge: Shell) -> None:
    """Everything of it agrees but the lock."""
    evil = conda(library("a", {"share/a": b"evil"})).data
    (name,) = [name for name in Bundle(small).members if name.endswith(".conda")]
    rewritten(small, envforge.cwd / "b.sh", {name: evil})
    verified, installed = run_all(envforge, [("verify", "b.sh"), ("install", "b.sh", "--prefix", "p")])
    assert verified.status == 0  # only who knows the lock can tell
    installed.assert_error(3, "neither in the bundle nor in the store: a-1.0-0.conda")
    assert not (envforge.cwd / "p").exists()


parts = st.sampled_from(
    ["a", "b", "..", ".", "", "/", "A", "ä", "a\u0308", "\\", "conda", "x" * 120, "\n", "\x01"]
)
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)
kinds = st.sampled_from(
    [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, b"x", b"L", b"g"]
)
evil_members = st.builds(
    lambda name, data, kind, link, mode: member(name, data, type=kind, linkname=link, mode=mode),
    paths,
    st.binary(max_size=600),
    kinds,
    st.sampled_from(["", "/etc", "../.."]),
    st.sampled_from([0o644, 0o777]),
)


@quick
@given(st.lists(evil_members | st.binary(max_size=1500), max_size=4).map(b"".join), st.booleans())
def test_any_tar_is_a_mirror_or_refused(
    tmp_path_factory: pytest.TempPathFactory, members: bytes, right: bool
) -> None:
    place = tmp_path_factory.mktemp("any")
    files: dict[str, bytes] = {}
    if right:  # a manifest that agrees, as far as the tar can be read
        try:
            with tarfile.open(fileobj=io.BytesIO(members + END)) as tar:
                for one in tar:
                    content = tar.extractfile(one) if one.isreg() else None
                    files[one.name] = content.read() if content else b""
        except (tarfile.TarError, ValueError, OSError, UnicodeError, KeyError):
            pass
        files = {name: data for name, data in files.items() if name.isprintable() and "\\" not in name}
    sealed(place / "b.sh", members, listed(files))
    (place / "x").mkdir()
    with suppress(InputError):
        Bundle(place / "b.sh").extract(place / "x")
    assert {path.name for path in place.iterdir()} == {"b.sh", "x"}
    assert not [path for path in (place / "x").rglob("*") if path.is_symlink()]


# -- a runtime that is none ------------------------------------------------------------------------------


def packed(*members: bytes) -> bytes:
    folder = member("runtime", b"", type=tarfile.DIRTYPE, mode=0o755)
    return gzip.compress(folder + b"".join(members) + END, mtime=0)


def link(name: str, to: str) -> bytes:
    return member(name, b"", type=tarfile.SYMTYPE, linkname=to)


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (lambda: packed(member("/etc/x")), "does not stay inside"),
        (lambda: packed(member("runtime/../../x")), "does not stay inside"),
        (lambda: packed(member("other/x")), "no part of it"),
        (lambda: packed(link("runtime/a", "/etc/passwd")), "leaves it"),
        (lambda: packed(link("runtime/a", "../x")), "leaves it"),
        (lambda: packed(link("runtime/a", "../../x")), "leaves it"),
        (lambda: packed(link("runtime/a", "."), member("runtime/a/x")), "before its directory"),
        (lambda: packed(link("runtime/a", "b"), member("runtime/a")), "cannot be unpacked"),
        (lambda: packed(member("runtime/a"), member("runtime/a")), "cannot be unpacked"),
        (lambda: packed(member("runtime/a/b")), "before its directory"),
        (
            lambda: packed(member("runtime/a", b"", type=tarfile.LNKTYPE, linkname="runtime")),
            "no file, directory",
        ),
        (lambda: packed(member("runtime/a", b"", type=tarfile.CHRTYPE)), "no file, directory"),
        (lambda: packed(member_header("runtime/a", (1 << 63) - 1)), "extensions"),
        (lambda: packed(member_header("runtime/a", 1 << 20)), "cannot be read"),
        (lambda: packed(member_header("runtime/a", (2 << 30) + 1)), "too much"),
        (lambda: packed(member("runtime/a", bytes(1 << 26), type=tarfile.XHDTYPE)), "extensions"),
        (lambda: packed(member("runtime/a", bytes(1 << 26), type=tarfile.GNUTYPE_LONGNAME)), "extensions"),
        (lambda: packed(member("runtime/a", bytes(1000)))[:-30], "cannot be read"),
        (lambda: b"\x1f\x8b" + bytes(40), "cannot be"),
        (lambda: b"no gzip", "cannot be"),
        (lambda: b"", "cannot be"),
    ],
)
def test_a_runtime_that_is_none(tmp_path: Path, archive: Callable[[], bytes], words: str) -> None:
    place = tmp_path / "work" / ".envforge"
    place.mkdir(parents=True)
    (tmp_path / "runtime.tar.gz").write_bytes(archive())
    with pytest.raises(InputError) as caught:
        unpack_runtime(tmp_path / "runtime.tar.gz", place)
    assert words in str(caught.value)
    left = {name.split("/")[0] for name in snapshot(tmp_path)}
    assert left == {"work", "runtime.tar.gz"}
    inside = {
        name.removeprefix("work/.envforge").split("/")[1:2][0]
        for name in snapshot(tmp_path)
        if name.count("/") > 1
    }
    assert inside <= {"runtime"}
