"""What every test may use: the command line as users start it, the demonstration's channel and index."""

from __future__ import annotations

import json
import marshal
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path
from typing import Any, TypeVar

import hypothesis
import pytest

from envforge.demo.channel import ChannelBuilder, DemoChannel, demo_packages
from envforge.demo.index import DemoIndex, build_demo_index
from envforge.demo.interpreter import host_platform, python_package
from envforge.demo.packages import PLACEHOLDER, TIMESTAMP, File, Package
from envforge.edges.machine import glibc_version
from envforge.edges.scratch import exclusive
from tests.forks import can_fork, forks

# A machine that is busy with other things makes examples slowly; that is no fault of the strategy.
hypothesis.settings.register_profile(
    "envforge", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("envforge")

# Whoever is started in the background inherits that interrupts are ignored, and so would every command here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

KEPT = {"PATH", "LANG", "LC_ALL", "TMPDIR", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "COVERAGE_PROCESS_START"}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)

    def assert_error(self, status: int, *words: str) -> None:
        """The three lines of the design, no traceback, and ``words`` in them."""
        assert self.status == status, self.err
        lines = [line for line in self.err.splitlines() if not line.startswith("note: ")]
        assert len(lines) == 3, self.err
        assert lines[0].startswith("envforge: ")
        assert lines[1].startswith("  at: ")
        assert lines[2].startswith("  do: ")
        for word in words:
            assert word in self.err, self.err
        assert "Traceback" not in self.err


@dataclass(frozen=True)
class Shell:
    """A user in a directory: runs ``envforge`` in a process of its own, with a small environment.

    The process is a fork of one that has imported envforge, where nobody can tell.
    """

    home: Path
    cwd: Path

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return {**kept, "HOME": str(self.home), **(more or {})}

    def __call__(
        self,
        *words: object,
        status: int | None = 0,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        before: Sequence[str] = (),
        user: int | None = None,
        umask: int = -1,
    ) -> Ended:
        argv = [str(word) for word in words]
        if can_fork(env or {}) and not before and user is None:
            variables = self.environment(env)
            ended = Ended(*forks()([argv], env=variables, cwd=cwd or self.cwd, umask=umask))
        else:
            done = subprocess.run(
                [*before, sys.executable, "-m", "envforge", *argv],
                cwd=cwd or self.cwd,
                env=self.environment(env),
                capture_output=True,
                text=True,
                check=False,
                timeout=300,
                user=user,
                umask=umask,
            )
            ended = Ended(done.returncode, done.stdout, done.stderr)
        assert status is None or ended.status == status, f"{words}: {ended}"
        return ended


@pytest.fixture
def envforge(tmp_path: Path) -> Shell:
    """``envforge(...)`` runs the command in ``tmp_path/work`` with a home of its own."""
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    return Shell(home, work)


@pytest.fixture(scope="session")
def platform() -> str:
    """This machine's platform."""
    return host_platform()


_NEEDLESS = re.compile(
    r"include/|lib/python[^/]+/(?:encodings/(?!__init__|aliases|ascii|latin_1|utf_8\.|idna|cp437)"
    r"|(?:__phello__|curses|dbm|lib2to3|pydoc_data|sqlite3|unittest|venv|wsgiref|xml/(?:dom|sax))/"
    r"|(?:_pydecimal|_pyio|doctest|ftplib|imaplib|mailbox|nntplib|pdb|pickletools|pydoc|smtplib)\.py"
    r"|lib-dynload/_(?:codecs_|curses|dbm|gdbm|sqlite3|test|tkinter|xx))"
)


def smaller(python: Package) -> Package:
    """The interpreter without what neither a test nor pip needs, and with bytecode, as conda's have it.

    Else every installation and every start of a runtime compiles all of it.
    """
    kept = {path: item for path, item in python.files.items() if not _NEEDLESS.match(path)}
    same = {
        path: item.data
        for path, item in kept.items()
        if path.endswith(".py") and isinstance(item, File) and PLACEHOLDER.encode() not in item.data
    }
    made = {path: File(data=data) for path, data in bytecode(same).items()}
    return replace(python, files={**kept, **made})


def bytecode(sources: Mapping[str, bytes]) -> dict[str, bytes]:
    """What this Python makes of them, by path, as packages bring it: by time and size."""
    found = {}
    for path, source in sources.items():
        code = compile(source, path, "exec", dont_inherit=True, optimize=0)
        head = MAGIC_NUMBER + struct.pack("<III", 0, TIMESTAMP, len(source) & 0xFFFFFFFF)
        found[cache_from_source(path)] = head + marshal.dumps(code, marshal.version)
    return found


Made = TypeVar("Made")


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], Made]) -> Made:
    """What ``make(DIRECTORY)`` gives, made once a run by whichever worker of pytest-xdist comes first.

    For what is dear, and changed by no test.  ``make`` must give something that can be pickled; it may
    skip, and then whoever comes next tries again.
    """
    base = factory.getbasetemp()
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    directory, made = run / f"once-{name}", run / f"once-{name}.made"
    with exclusive(run / f"once-{name}.lock", seconds=900):
        if not made.exists():
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()
            made.write_bytes(pickle.dumps(make(directory)))
    found: Made = pickle.loads(made.read_bytes())
    return found


@pytest.fixture(scope="session", autouse=True)
def _leaves_nothing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """What tests wrote goes when all of them passed, and not test by test: ext4 makes no file in the place of
    one that was removed in the last five seconds, and looks for another for as long as the tests take."""
    yield
    if not request.session.testsfailed:
        shutil.rmtree(tmp_path_factory.getbasetemp(), ignore_errors=True)


@pytest.fixture(scope="session")
def channel(tmp_path_factory: pytest.TempPathFactory) -> DemoChannel:
    """The demonstration's channel, with a smaller Python; do not write into it."""
    return once(tmp_path_factory, "channel", _make_channel)


def _make_channel(root: Path) -> DemoChannel:
    directory, scratch = root / "greetings", root / "python"
    scratch.mkdir()
    builder = ChannelBuilder(directory)
    python = smaller(python_package(scratch))
    for package in (*demo_packages(python.subdir), python):
        builder.add(package)
    builder.write_index()
    return DemoChannel(path=directory, url=builder.url, platform=python.subdir, python_version=python.version)


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> DemoIndex:
    """The demonstration's index; do not write into it."""
    return once(tmp_path_factory, "index", build_demo_index)


@dataclass(frozen=True)
class Journey:
    """A specification that was locked and mirrored once, to be used by many tests and changed by none."""

    directory: Path

    @property
    def lockfile(self) -> Path:
        return self.directory / "conda-lock.yml"

    @property
    def mirror(self) -> Path:
        return self.directory / "mirror"

    @property
    def spec(self) -> Path:
        return self.directory / "environment.yml"


GLIBC = ("--glibc", glibc_version() or "2.36")
"""The demonstration's Python is this machine's."""


def specification(
    channel_url: str,
    platform: str,
    *,
    index_url: str | None = None,
    conda: Sequence[str] = ("python", "greet"),
    pip: Sequence[str] = ("greet-client",),
) -> str:
    """An environment.yml."""
    lines = ["name: greet", "channels:", f"  - {channel_url}", "dependencies:", *(f"  - {d}" for d in conda)]
    if index_url is not None:
        lines += ["  - pip:", f"      - --index-url {index_url}", *(f"      - {r}" for r in pip)]
    return "\n".join([*lines, "platforms:", f"  - {platform}", ""])


@pytest.fixture(scope="session")
def journey(
    tmp_path_factory: pytest.TempPathFactory, channel: DemoChannel, index: DemoIndex, platform: str
) -> Journey:
    """The demonstration's specification, locked and mirrored."""

    def make(root: Path) -> Journey:
        (root / "home").mkdir()
        journey = Journey(root)
        journey.spec.write_text(specification(channel.url, platform, index_url=index.url))
        shell = Shell(root / "home", root)
        shell("lock", "environment.yml", *GLIBC)
        shell("mirror", "conda-lock.yml", "mirror")
        return journey

    return once(tmp_path_factory, "journey", make)


Warmed = Callable[[Path], Path]


@pytest.fixture(scope="session")
def warm_store(journey: Journey, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which all of the journey is unpacked and compiled; do not write into it, nor link to it."""

    def make(root: Path) -> Path:
        Shell(root, root)("install", journey.mirror, "--prefix", root / "p")
        return root / "p.generations" / "store"

    return once(tmp_path_factory, "warm", make)


@pytest.fixture
def warmed(warm_store: Path) -> Warmed:
    """``warmed(PREFIX)`` puts a copy of that store where an installation at ``PREFIX`` has its own.

    For tests to which it does not matter how an environment was made: linking takes a tenth of the time.
    """

    def copy(prefix: Path) -> Path:
        place = prefix.with_name(f"{prefix.name}.generations")
        place.mkdir(parents=True)
        subprocess.run(["cp", "-a", str(warm_store), str(place / "store")], check=True)
        return prefix

    return copy


@pytest.fixture
def builder(tmp_path: Path) -> ChannelBuilder:
    """An empty channel to put packages into."""
    return ChannelBuilder(tmp_path / "channel")
