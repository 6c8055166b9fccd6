"""What a page of the documentation runs in: the channels, paths and programs that it names, in one directory.

A page says in HTML comments, which a reader does not see, what a test cannot guess:

``<!-- starts with: environment.yml, conda-lock.yml -->``  what lies there when the page begins
``<!-- file: NAME -->``      the next block is the content of that file
``<!-- not run: REASON -->`` the next block is not run
``<!-- fails: STATUS -->``   the next block ends with that status and not with 0
``<!-- prints -->``          the next block is what the last one printed, ``…`` being anything
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from uv import find_uv_bin

import envforge
from envforge.demo.channel import ChannelBuilder
from envforge.demo.index import IndexBuilder, Wheel
from envforge.demo.interpreter import python_package
from envforge.demo.packages import Package, noarch_python
from tests.conftest import smaller
from tests.runtime.conftest import installed_wheel

PLACES = ("/project", "/media/stick", "/site")
"""Directories that pages name, and that are the sandbox's own while they are run."""

SERVER = "http://mirror.example"
"""The web server that pages name: it serves ``/project/mirror``."""

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))

_COMMENT = re.compile(r"<!-- *([a-z ]+?)(?:: *(.*?))? *-->")
_PLACE = re.compile(rf"(?<![\w.])(?:{'|'.join(PLACES)})(?![\w-])")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and text, the line that it begins in, and the comment right before it."""

    language: str
    text: str
    line: int
    mark: str = ""
    about: str = ""


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in their order."""
    mark, about, language = "", "", None
    lines: list[str] = []
    start = 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if language is not None:
            if line != "```":
                lines.append(line)
                continue
            yield Block(language, "\n".join(lines) + "\n", start, mark, about)
            mark, about, language = "", "", None
        elif line.startswith("```"):
            language, lines, start = line[3:], [], number
        elif comment := _COMMENT.fullmatch(line):
            if comment[1] != "starts with":
                mark, about = comment[1], comment[2] or ""
        elif line:
            mark, about = "", ""


def starts_with(page: Path) -> list[str]:
    """What lies in the sandbox when a page begins."""
    if page.name == "README.md":
        return ["environment.yml"]
    match = re.search(r"<!-- starts with: (.*?) -->", page.read_text(encoding="utf-8"))
    return [name.strip() for name in match[1].split(",")] if match else []


@dataclass(frozen=True)
class Outside:
    """The channel and the index that stand for conda-forge and PyPI, for this machine's platform."""

    directory: Path
    platform: str

    @property
    def release(self) -> Path:
        """An envforge whose runtime is made of the wheels that are installed here."""
        return self.directory / "release"

    @property
    def wheels(self) -> str:
        """The simple index that has them."""
        return (self.directory / "wheels").as_uri()

    @classmethod
    def build(cls, directory: Path) -> Outside:
        """Make them: this Python, numpy in two versions, and einops; nothing in them does anything."""
        forge = ChannelBuilder(directory / "conda-forge")
        with tempfile.TemporaryDirectory() as staging:
            python = smaller(python_package(Path(staging)))
        forge.add(python)
        for subdir in {"linux-64", "linux-aarch64"} - {python.subdir}:
            forge.add(Package(name="python", version=python.version, subdir=subdir))
        for version in ("2.0", "2.1"):
            forge.add(noarch_python("numpy", version, {"numpy/__init__.py": b""}))
        forge.write_index()
        index = IndexBuilder(directory / "pypi")
        index.add(Wheel(name="einops", version="0.8", files={"einops/__init__.py": b""}))
        index.write_index()
        outside = cls(directory, python.subdir)
        outside._release_wheels()
        return outside

    def _release_wheels(self) -> None:
        """A release names its wheels by hash, and the real ones are not on every machine that runs this."""
        package = shutil.copytree(
            Path(envforge.__file__).parent,
            self.release / "envforge",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        machine = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}.get(self.platform, "any")
        pins = []
        for name, tag in (
            ("click", "py3-none-any"),
            ("py-rattler", f"cp310-abi3-manylinux_2_28_{machine}"),
            ("securesystemslib", "py3-none-any"),
        ):
            page = self.directory / "wheels" / name
            page.mkdir(parents=True)
            row = installed_wheel(name, tag, page)
            (page / "index.html").write_text(f'<a href="{row.filename}">{row.filename}</a>\n')
            pins.append(
                {"name": name, "version": row.version, "filename": row.filename, "sha256": row.sha256}
            )
        pinned = {"format": 1, "platforms": {self.platform: pins}}
        (package / "runtime" / "wheels.json").write_text(json.dumps(pinned))

    def translate(self, text: str) -> str:
        """``text`` with this machine's platform for linux-64."""
        other = {"linux-64": self.platform, self.platform: "linux-64"}
        return re.sub("|".join(map(re.escape, other)), lambda found: other[found[0]], text)

    def specification(self, text: str) -> str:
        """A specification with the channel and the index in the place of conda-forge and PyPI."""
        channel = (self.directory / "conda-forge").as_uri()
        index = (self.directory / "pypi" / "simple").as_uri()
        text = text.replace("- conda-forge\n", f"- {channel}\n")
        if "[project]" in text:
            text += f'[[tool.uv.index]]\nurl = "{index}"\ndefault = true\n'
        elif ":" not in text:  # requirements
            text = f"--index-url {index}\n{text}"
        return text.replace("- pip:\n", f"- pip:\n      - --index-url {index}\n")


@dataclass(frozen=True)
class Sandbox:
    """A machine with the directories that pages name, and a user who is in ``work``."""

    root: Path
    outside: Outside
    server: str = ""

    @classmethod
    @contextmanager
    def open(cls, root: Path, outside: Outside) -> Iterator[Sandbox]:
        """Make it below ``root``, with a web server that ends with it."""
        for place in (*PLACES, "/work", "/home"):
            (root / place[1:]).mkdir(parents=True)
        start = (
            f"import sys; sys.path.insert(0, {str(outside.release)!r}); "
            "from envforge.__main__ import main; main()"
        )
        for name, words in (
            ("envforge", ("env", f"PIP_INDEX_URL={outside.wheels}", sys.executable, "-c", start)),
            ("conda-lock", (sys.executable, "-m", "conda_lock")),
            ("python", (sys.executable,)),
            ("uv", (find_uv_bin(),)),
        ):
            shim = root / "bin" / name
            shim.parent.mkdir(exist_ok=True)
            shim.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, words))} "$@"\n')
            shim.chmod(0o755)
        handler = partial(_Silent, directory=str(root / "project" / "mirror"))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield cls(root, outside, f"http://127.0.0.1:{server.server_address[1]}")
            finally:
                server.shutdown()
                thread.join()

    @property
    def work(self) -> Path:
        """Where the user is."""
        return self.root / "work"

    def translate(self, text: str) -> str:
        """``text`` with the sandbox's own directories, server and platform."""
        text = _PLACE.sub(lambda found: f"{self.root}{found[0]}", text)
        return self.outside.translate(text.replace(SERVER, self.server))

    def write(self, name: str, text: str) -> None:
        """Write a file that a page shows."""
        (self.work / name).write_text(self.translate(self.outside.specification(text)))

    def run(self, text: str) -> tuple[int, str]:
        """Run the lines of a block in one shell; the status, and what they printed."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.translate(text)],
            cwd=self.work,
            env={
                "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
                "HOME": str(self.root / "home"),
                "LANG": "C.UTF-8",
                "PIP_CONFIG_FILE": os.devnull,
                "PIP_DISABLE_PIP_VERSION_CHECK": "1",
                "UV_NO_CONFIG": "1",
                "UV_PYTHON": sys.executable,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        return done.returncode, done.stdout


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        pass


def runs(block: Block) -> bool:
    """Whether a block is one that is run."""
    return block.language == "sh" and block.mark in ("", "fails")


def printed(expected: str, actual: str) -> bool:
    """Whether the lines of ``expected`` are in ``actual``, in their order; ``…`` is anything."""
    lines = iter(actual.splitlines())
    patterns = [re.escape(line).replace("…", ".*") for line in expected.splitlines()]
    return all(any(re.fullmatch(pattern, line) for line in lines) for pattern in patterns)
