"""Post-link scripts of conda packages: programs that a package wants to run in the environment it is linked
into.  None is run unless the user names its package.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from envforge.edges.process import Command, run
from envforge.errors import CouldNotError, InputError
from envforge.model.receipt import FileRecord, compare
from envforge.node.linking.conda import ExtractedPackage, post_link_scripts
from envforge.node.proving.scan import scan
from envforge.reporting import Reporter

__all__ = ["chosen_scripts", "run_script"]

_SECONDS = 3600
_MESSAGES = ".messages.txt"
_MOST = 4096  # characters of messages that are passed on


def chosen_scripts(names: Sequence[str], packages: Sequence[ExtractedPackage]) -> list[ExtractedPackage]:
    """The packages called ``names``, in the order of ``packages``.

    :raises InputError: if one is not there, or has no script.
    """
    having = post_link_scripts(packages)
    for name in names:
        if name not in having:
            raise InputError(
                f"{name} has no post-link script",
                at="--run-scripts",
                do=f"name one of: {', '.join(having)}" if having else "leave it out: no package has one",
            )
    return [package for package in packages if package.row.name in names]


def run_script(package: ExtractedPackage, prefix: Path, *, jobs: int, reporter: Reporter) -> set[str]:
    """Run the post-link script of ``package`` in the environment at ``prefix``, as conda does.

    :param prefix: the path that the environment is linked for, where it lies already.
    :returns: what it added or changed, relative to ``prefix``; what it has removed is gone.
    :raises CouldNotError: if it fails.
    """
    before = scan(prefix, jobs=jobs)
    row = package.row
    shell = shutil.which("bash") or "/bin/sh"
    command = Command(
        argv=(shell, str(prefix / "bin" / f".{row.name}-post-link.sh")),
        cwd=prefix,
        env={
            "PREFIX": str(prefix),
            "ROOT_PREFIX": str(prefix),
            "CONDA_PREFIX": str(prefix),
            "PKG_NAME": row.name,
            "PKG_VERSION": row.version,
            "PKG_BUILDNUM": str(package.index.get("build_number", 0)),
            "PATH": f"{prefix / 'bin'}:/usr/bin:/bin",
        },
    )
    done = run(command, timeout=_SECONDS)
    if done.returncode != 0:
        raise CouldNotError(
            f"the post-link script of {row.name} ended with status {done.returncode}",
            at=str(command.argv[1]),
            do="see the log; without --run-scripts it is not run",
            story=f"{done.stdout}\n{done.stderr}",
        )
    _pass_on(prefix, row.name, reporter)
    return _changed(before, scan(prefix, jobs=jobs))


def _pass_on(prefix: Path, name: str, reporter: Reporter) -> None:
    messages = prefix / _MESSAGES
    if messages.is_symlink() or not messages.is_file():
        return
    with messages.open(encoding="utf-8", errors="replace") as file:
        text = " ".join(file.read(_MOST).split())
    messages.unlink()
    if text:
        reporter.note(f"{name} says: {text}")


def _changed(before: dict[str, FileRecord], after: dict[str, FileRecord]) -> set[str]:
    return {one.path for one in compare(before, after) if one.kind != "missing"}
