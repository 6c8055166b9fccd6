"""The whole path once, with the real commands, each in a process of its own as a user would start it."""

from __future__ import annotations

import os
import platform as host
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from envforge.demo.channel import build_demo_channel
from envforge.demo.index import build_demo_index
from envforge.edges.process import Command, Completed, run
from envforge.edges.store import make_directory, remove_tree
from envforge.errors import CouldNotError, InputError
from envforge.model.bundle import BUNDLE_PLATFORMS

__all__ = ["Tour", "Visited", "take_tour"]

_MARK = ".envforge-demo"
_PROGRAMS = Path(sys.executable).parent
"""Where the command of this very envforge is, if it is installed."""
_PYPI = "https://pypi.org/simple"

_SPECIFICATION = """\
name: greet
channels:
  - {channel}
dependencies:
  - python
  - greet          # brings greet-core, and libgreet with a path compiled into it
  - pip:
{index}{requirements}platforms:
  - {platform}
"""


@dataclass(frozen=True, kw_only=True)
class Visited:
    """One step: what it did, the command as a user types it, and what that printed."""

    title: str
    command: str
    output: str


@dataclass(frozen=True, kw_only=True)
class Tour:
    """What a tour left behind."""

    directory: Path
    prefix: Path
    steps: tuple[Visited, ...]


def take_tour(
    directory: Path, *, pypi: bool, tell: Callable[[str], None], show: Callable[[Visited], None]
) -> Tour:
    """Make a channel and an index below ``directory``, then lock, bundle, install, verify, extract, render.

    :param directory: a new directory, or one that an earlier tour has made, which is made anew.
    :param pypi: also take a wheel from the real PyPI.
    :param tell: told what is being made that a user would have already.
    :param show: told each step when it is done.
    :raises InputError: if ``directory`` holds something else.
    :raises CouldNotError: if a step fails, with what it said.
    """
    _clear(directory)
    tell("making a conda channel: this Python repackaged, a compiled library, two noarch packages")
    channel = build_demo_channel(directory / "channel")
    tell("making a PyPI index with two wheels")
    index = build_demo_index(directory / "index")
    text = _specification(channel.url, channel.platform, index.url, pypi=pypi)
    (directory / "environment.yml").write_text(text, encoding="utf-8")
    steps = []
    for title, words, isolated in _itinerary(channel.platform):
        visited = _visit(directory, title, words, isolated=isolated)
        show(visited)
        steps.append(visited)
    return Tour(directory=directory, prefix=directory / "prefix", steps=tuple(steps))


def _specification(channel: str, platform: str, index: str, *, pypi: bool) -> str:
    requirements = ["greet-client"] + (["iniconfig"] if pypi else [])
    indexes = [f"--index-url {index}"] + ([f"--extra-index-url {_PYPI}"] if pypi else [])
    return _SPECIFICATION.format(
        channel=channel,
        platform=platform,
        index="".join(f"      - {line}\n" for line in indexes),
        requirements="".join(f"      - {line}\n" for line in requirements),
    )


def _itinerary(platform: str) -> list[tuple[str, tuple[str, ...], bool]]:
    return [
        (
            "Lock: conda and PyPI resolved together, for a named platform and not for this machine.",
            ("envforge", "lock", "environment.yml", "-p", platform, *_glibc(platform)),
            False,
        ),
        *_carrying(platform),
        (
            "Render: a recipe that installs the mirror into an Apptainer or Singularity image.",
            (
                "envforge",
                "render",
                "singularity",
                "mirror",
                "--base",
                "localimage:base.sif",
                "-o",
                "greet.def",
            ),
            False,
        ),
    ]


def _carrying(platform: str) -> list[tuple[str, tuple[str, ...], bool]]:
    """From the lockfile to an environment that works, and a mirror: by way of a bundle where one can be."""
    bundled = platform in BUNDLE_PLATFORMS
    source = "greet.sh" if bundled else "mirror"
    mirror = (
        "Mirror: exactly what the lockfile names, as a channel and an index.",
        ("envforge", "mirror", "conda-lock.yml", "mirror"),
        False,
    )
    bundle = (
        "Bundle: exactly what the lockfile names, in one file; without a Python, which this machine has.",
        ("envforge", "bundle", "conda-lock.yml", "--no-runtime", "-o", "greet.sh"),
        False,
    )
    extract = (
        "Extract: what the bundle carries, as a channel and an index for any other tool.",
        ("envforge", "extract", "greet.sh", "mirror"),
        False,
    )
    started = bundled and (_PROGRAMS / "envforge").exists()
    return [
        bundle if bundled else mirror,
        (
            "Install: with the network cut off, as on a compute node.",
            (*(("sh",) if started else ("envforge", "install")), source, "--prefix", "prefix"),
            True,
        ),
        (
            "Verify: every file is what was installed, and is derived again from the locked artifacts.",
            ("envforge", "verify", "prefix", "--against", source),
            True,
        ),
        (
            "Use it: the library, the script and the text file all name the prefix.",
            ("prefix/bin/greet",),
            False,
        ),
        *([extract] if bundled else []),
    ]


def _glibc(platform: str) -> tuple[str, ...]:
    """The demonstration's packages are of this machine, so they need this machine's glibc."""
    if not platform.startswith("linux-"):
        return ()
    name, version = host.libc_ver()
    return ("--glibc", version) if name == "glibc" and version else ()


def _visit(directory: Path, title: str, words: tuple[str, ...], *, isolated: bool) -> Visited:
    argv = words
    if words[0] == "envforge":
        argv = (sys.executable, "-m", *words)
    elif "/" in words[0]:
        argv = (str(directory / words[0]), *words[1:])
    shown = shlex.join(words)
    if isolated and _can_isolate():
        argv = ("unshare", "--map-root-user", "--net", *argv)
        shown = f"unshare --map-root-user --net {shown}"
    env = {
        "ENVFORGE_CACHE": str(directory / "cache"),
        "PATH": f"{_PROGRAMS}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
    }
    done = run(Command(argv=argv, cwd=directory, env=env, network=True))
    if done.returncode != 0:
        raise _failed(shown, done)
    return Visited(title=title, command=shown, output=done.stdout.rstrip("\n"))


def _failed(shown: str, done: Completed) -> CouldNotError:
    said = (done.stderr or done.stdout).strip()
    first = said.splitlines()[0] if said else f"exit status {done.returncode}"
    return CouldNotError(
        f"the demonstration stopped: {first.removeprefix('envforge: ')}",
        at=shown,
        do="the same command says more with --verbose",
        story=f"{done.command}\n{done.stdout}\n{done.stderr}",
    )


def _can_isolate() -> bool:
    """Whether a program can be started here without any network (Linux, user namespaces allowed)."""
    try:
        return run(Command(argv=("unshare", "--map-root-user", "--net", "true"))).returncode == 0
    except CouldNotError:
        return False


def _clear(directory: Path) -> None:
    if directory.exists():
        if not (directory / _MARK).is_file():
            raise InputError(
                "the directory exists and is not an earlier demonstration",
                at=str(directory),
                do="envforge demo NEW-DIRECTORY",
            )
        remove_tree(directory)
    make_directory(directory)
    (directory / _MARK).write_text("Made by envforge demo, which may remove it.\n", encoding="utf-8")
