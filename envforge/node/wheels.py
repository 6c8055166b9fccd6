"""Installing wheels into a linked tree, with uv, and making what uv writes independent of where that was.

uv is given a throw-away cache, no index and no network, exact versions and their hashes.  It checks tags
and hashes, and hard-links out of its cache; the cache is gone afterwards, so nothing shares the files.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from envforge.edges.process import Command, run, uv_executable
from envforge.edges.scratch import is_full
from envforge.errors import CouldNotError, InputError
from envforge.model.lockfile import LockedPackage, canonical_name
from envforge.model.urls import redacted
from envforge.node.placing import PlacedWheel

__all__ = ["install_wheels", "settle_wheels", "wheel_owners"]

_KERNEL_LIMIT = 127  # bytes of a `#!` line that every Linux kernel reads
_LEFT_BY_UV = ("uv_cache.json", "direct_url.json")


def install_wheels(placed: Sequence[PlacedWheel], tree: Path, site_packages: str, *, work: Path) -> None:
    """Install wheels, whose hashes were checked, into the conda environment at ``tree``.

    :param work: an empty directory on the file system of ``tree``, removed by the caller.
    :raises CouldNotError: if uv fails.
    :raises InputError: if uv passed over a wheel.
    """
    wheels = work / "wheels"
    wheels.mkdir()
    lines = []
    for wheel in placed:
        row = wheel.row
        (wheels / row.filename).symlink_to(wheel.path.absolute())
        lines.append(f"{row.name}=={row.version} --hash=sha256:{row.sha256}\n")
    (work / "requirements.txt").write_text("".join(lines), encoding="utf-8")
    done = run(_uv_command(tree, work))
    if done.returncode != 0:
        full = is_full(done.stderr)
        raise CouldNotError(
            f"the wheels cannot be installed: {_first_cause(done.stderr)}",
            at=str(work.parent),
            do="df -h . ; df -i . ; quota" if full else "see the log for all that uv said",
            story=f"{done.command}\n{redacted(done.stderr)}",
        )
    found = {canonical_name(info.name.split("-")[0]) for info in (tree / site_packages).glob("*.dist-info")}
    for wheel in placed:
        if canonical_name(wheel.row.name) not in found:
            raise InputError(
                f"{wheel.row.filename} is not for this environment: uv passed over it",
                at=f"package {wheel.row.name} {wheel.row.version} (pip, {wheel.row.platform})",
                do="lock again: envforge lock",
            )


def _uv_command(tree: Path, work: Path) -> Command:
    return Command(
        argv=(
            uv_executable(), "pip", "install",
            "--python", str(tree / "bin" / "python"),
            "--offline", "--no-index", "--no-deps", "--require-hashes", "--no-build",
            "--find-links", "wheels",
            "--link-mode", "hardlink",
            "--break-system-packages",
            "--no-config", "--no-python-downloads", "--no-progress", "--color", "never",
            "--requirements", "requirements.txt",
        ),
        cwd=work,  # in an absolute path uv takes `#` and `,` for more than letters
        env={
            "UV_CACHE_DIR": str(work / "uv-cache"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": str(work),
            "HOME": str(work),
        },
    )  # fmt: skip


def _first_cause(text: str) -> str:
    lines = [line.strip(" \u00d7├╰─▶│") for line in text.splitlines() if line.strip()]
    return next((line for line in reversed(lines) if line and not line.startswith("hint")), "uv failed")


def settle_wheels(rows: Sequence[LockedPackage], tree: Path, site_packages: Path, final: Path) -> None:
    """Give the scripts and RECORDs that uv wrote the path that they will have, and drop what is uv's own.

    :param rows: the wheels that were installed.
    :param tree: where the environment lies now.
    :param site_packages: its site-packages.
    :param final: the path that it is linked for.
    """
    rewritten: set[Path] = set()  # one command may stand in two RECORDs
    for info in _dist_infos(rows, site_packages):
        kept = []
        for entry in _read_record(info):
            path = Path(os.path.normpath(site_packages / entry[0]))
            if path.parent == info and path.name in _LEFT_BY_UV:
                path.unlink(missing_ok=True)
                continue
            if path.parent == tree / "bin" and _rewrite_script(path, tree, final):
                rewritten.add(path)
            if path in rewritten:
                content = path.read_bytes()
                entry = [entry[0], _record_hash(content), str(len(content))]
            kept.append(entry)
        _write_record(info, sorted(kept))


def wheel_owners(
    rows: Sequence[LockedPackage], tree: Path, site_packages: Path, taken: Mapping[str, tuple[str, str]]
) -> dict[str, tuple[str, str]]:
    """Who brought each path and how, from the RECORDs that uv wrote: ``path -> (owner, how)``.

    :param taken: what conda packages brought.
    :raises InputError: if a RECORD names a path outside the prefix, or a conda package's.
    """
    owners: dict[str, tuple[str, str]] = {}
    for info in _dist_infos(rows, site_packages):
        owner = f"pip:{canonical_name(info.name.split('-')[0])}"
        for entry in _read_record(info):
            path = Path(os.path.normpath(site_packages / entry[0]))
            if not path.is_relative_to(tree):
                raise InputError(
                    f"the wheel of {owner[4:]} names a path outside its root: {entry[0]}",
                    at=info.name,
                    do="do not install this wheel; ask its index",
                )
            relative = path.relative_to(tree)
            if relative.as_posix() in taken:
                raise InputError(
                    f"the wheel of {owner[4:]} wrote over a file of {taken[relative.as_posix()][0]}",
                    at=relative.as_posix(),
                    do=f"take {owner[4:]} either from conda or from PyPI, and lock again",
                )
            how = "script" if relative.parts[0] == "bin" else "packaged"
            if path.parent == info and path.name in ("RECORD", "INSTALLER", "REQUESTED"):
                how = "metadata"
            owners[relative.as_posix()] = (owner, how)
    return owners


def _dist_infos(rows: Sequence[LockedPackage], site_packages: Path) -> list[Path]:
    """The ``*.dist-info`` directories of the wheels ``rows``, sorted."""
    names = {canonical_name(row.name) for row in rows}
    found = (info for info in site_packages.glob("*.dist-info") if info.is_dir())
    return sorted(info for info in found if canonical_name(info.name.split("-")[0]) in names)


def _read_record(info: Path) -> list[list[str]]:
    try:
        text = (info / "RECORD").read_text(encoding="utf-8")
        return [row for row in csv.reader(io.StringIO(text)) if row]
    except (UnicodeDecodeError, csv.Error, FileNotFoundError) as error:
        raise InputError(
            "the RECORD of a wheel cannot be read", at=info.name, do="do not install it; ask its index"
        ) from error


def _write_record(info: Path, rows: Sequence[Sequence[str]]) -> None:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    _replace(info / "RECORD", out.getvalue().encode(), mode=0o644)


def _record_hash(content: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest}"


def _rewrite_script(path: Path, tree: Path, final: Path) -> bool:
    """Replace the ``#!`` of a script for the tree's Python; ``False`` if it is no such script."""
    if path.is_symlink() or not path.is_file():
        return False
    content = path.read_bytes()
    body = _body(content, tree)
    if body is None:
        return False
    interpreter, rest = body
    program, blank, flags = interpreter.removeprefix(f"{tree}/bin/").partition(" ")
    _replace(path, shebang(str(final / "bin" / program), flags if blank else "") + rest, mode=0o755)
    return True


def _body(content: bytes, tree: Path) -> tuple[str, bytes] | None:
    """Interpreter and body of a script with one of the two headers that an installer writes."""
    start = str(tree / "bin").encode()
    if content.startswith(b"#!" + start):
        line, _, rest = content.partition(b"\n")
        return line[2:].decode().strip(), rest
    head = b"#!/bin/sh\n'''exec' "
    if content.startswith(head):
        line, _, after = content[len(head) :].partition(b"\n")
        quoted = line.removesuffix(b'"$0" "$@"').strip().strip(b"'\"")
        if quoted.startswith(start) and after.startswith(b"' '''\n"):
            return quoted.decode(), after.removeprefix(b"' '''\n")
    return None


def shebang(interpreter: str, flags: str = "") -> bytes:
    """The first line, or lines, of a Python script for ``interpreter``.

    A path with blanks, or one longer than a kernel reads, goes through ``/bin/sh`` in a header that is
    both valid shell and a Python string (the form that pip, distlib and conda use).
    """
    after = f" {flags}" if flags else ""
    line = f"#!{interpreter}{after}\n".encode()
    if len(line) <= _KERNEL_LIMIT and " " not in interpreter:
        return line
    return f"#!/bin/sh\n'''exec' \"{interpreter}\"{after} \"$0\" \"$@\"\n' '''\n".encode()


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    """Write beside and rename: the file may be a hard link that somebody else reads."""
    beside = path.with_name(f".{path.name}.new")
    beside.write_bytes(content)
    beside.chmod(mode)
    beside.replace(path)
