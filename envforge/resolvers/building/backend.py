"""Builds: an environment of nothing but the build requirements, by hash, and the hooks of PEP 517 in it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envforge.edges.process import Command, Completed, run, uv_executable
from envforge.errors import CouldNotError, InputError
from envforge.model.access import Access
from envforge.model.moments import cutoff, moment_text
from envforge.model.urls import redacted
from envforge.resolvers.certificates import certificate_variables
from envforge.resolvers.pypi.places import Places

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["BuildEnvironment", "BuildSystem", "Uv", "lock_requires", "make_environment", "read_build_system"]

_LEGACY = ("setuptools>=40.8.0",)
_SCRIPT = """\
import importlib, json, sys
with open(sys.argv[1]) as file:
    task = json.load(file)
sys.path[:1] = task["path"]
module, _, inner = task["backend"].partition(":")
backend = importlib.import_module(module)
for name in inner.split(".") if inner else []:
    backend = getattr(backend, name)
if task["hook"] == "build_wheel":
    answer = backend.build_wheel(task["out"])
else:
    hook = getattr(backend, task["hook"], None)
    answer = list(hook()) if hook else []
with open(task["answer"], "w") as file:
    json.dump(answer, file)
"""
"""What the Python of the build environment is given: it has no library of ours."""


@dataclass(frozen=True, kw_only=True)
class BuildSystem:
    """The ``[build-system]`` of a project: its backend, where to look for that, and what it needs."""

    backend: str
    path: tuple[str, ...]
    requires: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Uv:
    """How uv is started: its cache, the indexes and how they are reached, and a date that ends the world."""

    cache: Path
    indexes: tuple[str, ...]
    exclude_newer: str | None
    offline: bool
    access: Access = field(default_factory=Access)

    def run(self, *words: str, work: Path, indexes: bool = True) -> Completed:
        """Start uv with ``words`` in ``work``."""
        argv = [uv_executable(), *words, "--no-config", "--no-python-downloads", "--no-progress"]
        argv += ["--color", "never", "--cache-dir", str(self.cache)]
        env = {"TMPDIR": str(work)}
        if indexes:
            options, variables = Places(indexes=self.indexes, access=self.access, refused=True).options()
            argv += options
            env |= variables | certificate_variables(self.access)
            if self.exclude_newer is not None:
                argv += ["--exclude-newer", moment_text(cutoff(self.exclude_newer))]
        if self.offline:
            argv += ["--offline"]
        return run(Command(argv=tuple(argv), cwd=work, env=env, network=not self.offline))

    def python(self, wanted: str, work: Path) -> tuple[str, str]:
        """A Python X.Y on this machine, and its X.Y: where that is not there, the one that runs envforge."""
        own = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if own != wanted:
            done = self.run("python", "find", wanted, "--no-project", "--system", work=work, indexes=False)
            if done.returncode == 0 and done.stdout.strip():
                return done.stdout.strip(), wanted
        return sys.executable, own


def read_build_system(tree: Path, name: str) -> BuildSystem:
    """What PEP 517 and 518 say of the project at ``tree``.

    :param name: what an error should call it.
    :raises InputError: if there is nothing to build, or its ``[build-system]`` cannot be used.
    """
    file = tree / "pyproject.toml"
    legacy = BuildSystem(backend="setuptools.build_meta:__legacy__", path=(), requires=_LEGACY)
    if not file.is_file():
        if not (tree / "setup.py").is_file():
            raise InputError(
                "there is neither a pyproject.toml nor a setup.py", at=name, do="name the project's directory"
            )
        return legacy
    try:
        section = tomllib.loads(file.read_text(encoding="utf-8")).get("build-system")
    except (OSError, ValueError) as error:
        raise InputError(f"pyproject.toml cannot be read: {error}", at=name) from error
    if section is None:
        return legacy
    requires, path = _texts(section, "requires", name), _texts(section, "backend-path", name)
    backend = section.get("build-backend", legacy.backend)
    inside = all((tree / part).resolve().is_relative_to(tree.resolve()) for part in path)
    if not isinstance(backend, str) or not inside:
        raise InputError("its [build-system] does not follow PEP 517", at=f"{name}: pyproject.toml")
    return BuildSystem(backend=backend, path=path, requires=requires)


def _texts(section: Any, key: str, name: str) -> tuple[str, ...]:
    value = section.get(key, []) if isinstance(section, dict) else None
    if not isinstance(value, list) or not all(isinstance(v, str) and v.isprintable() for v in value):
        raise InputError(f"build-system.{key} is no list of texts", at=f"{name}: pyproject.toml")
    return tuple(value)


def lock_requires(
    uv: Uv, requires: Sequence[str], python: str, known: Sequence[str], *, work: Path, name: str
) -> tuple[str, ...]:
    """Build requirements with everything that they need: exact versions and the hashes of their wheels.

    :param python: the X.Y to lock for; every platform is locked at once.
    :param known: what an earlier lock said: versions that still fit are kept.
    :returns: one line a requirement.
    :raises CouldNotError: if they cannot be had as wheels.
    """
    if not requires:
        return ()
    (work / "requires.in").write_text("".join(f"{one}\n" for one in requires), encoding="utf-8")
    output = work / "requires.txt"
    output.write_text("".join(f"{line}\n" for line in known), encoding="utf-8")
    done = uv.run(
        "pip", "compile", "requires.in", "--output-file", "requires.txt", "--universal",
        "--python-version", python, "--generate-hashes", "--only-binary", ":all:",
        "--no-header", "--no-annotate", work=work,
    )  # fmt: skip
    if done.returncode != 0:
        raise _failed(f"the build requirements of {name} cannot be had as wheels", name, done)
    text = output.read_text(encoding="utf-8").replace("\\\n", " ")
    return tuple(" ".join(line.split()) for line in text.splitlines() if line.strip())


@dataclass(frozen=True, kw_only=True)
class BuildEnvironment:
    """A virtual environment with the build requirements, and nothing else."""

    directory: Path
    work: Path
    name: str

    @property
    def python(self) -> Path:
        """Its interpreter."""
        windows = self.directory / "Scripts" / "python.exe"
        return windows if windows.exists() else self.directory / "bin" / "python"

    def dynamic_requires(self, tree: Path, system: BuildSystem) -> tuple[str, ...]:
        """What the backend asks for beside what ``pyproject.toml`` says."""
        answer = self._call("get_requires_for_build_wheel", tree, system, epoch=0)
        return tuple(str(one) for one in answer)

    def build_wheel(self, tree: Path, system: BuildSystem, out: Path, *, epoch: int) -> Path:
        """Build the project at ``tree``.

        :raises CouldNotError: if its build fails.
        """
        out.mkdir()
        answer = self._call("build_wheel", tree, system, epoch=epoch, out=out)
        wheel = out / str(answer)
        if wheel.parent != out or not wheel.is_file():
            raise CouldNotError(f"the build of {self.name} made no wheel", at=self.name)
        return wheel

    def _call(
        self, hook: str, tree: Path, system: BuildSystem, *, epoch: int, out: Path | None = None
    ) -> Any:
        script, task, answer = (self.work / name for name in ("hook.py", "task.json", "answer.json"))
        script.write_text(_SCRIPT, encoding="utf-8")
        answer.unlink(missing_ok=True)
        path = [str(tree / part) for part in system.path]
        said = {"hook": hook, "backend": system.backend, "path": path, "out": str(out), "answer": str(answer)}
        task.write_text(json.dumps(said), encoding="utf-8")
        argv = (str(self.python), str(script), str(task))
        done = run(Command(argv=argv, cwd=tree, env=self._environment(epoch)))
        if done.returncode != 0 or not answer.is_file():
            raise _failed(f"the build of {self.name} failed", self.name, done)
        return json.loads(answer.read_text(encoding="utf-8"))

    def _environment(self, epoch: int) -> Mapping[str, str]:
        """Nothing of the user's but the PATH, where the compiler is; and nothing that differs next time."""
        return {
            "PATH": os.pathsep.join((str(self.python.parent), os.environ.get("PATH", os.defpath))),
            "HOME": str(self.work),
            "TMPDIR": str(self.work),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "PYTHONHASHSEED": "0",
            "PYTHONNOUSERSITE": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PIP_NO_INDEX": "1",
            "CFLAGS": "-g0",  # debugging information holds the path of the build
            "CXXFLAGS": "-g0",
            "SOURCE_DATE_EPOCH": str(epoch),
        }


def make_environment(
    uv: Uv, python: str, requires: Sequence[str], *, work: Path, name: str
) -> BuildEnvironment:
    """A new environment below ``work`` with ``requires``, each wheel checked against its hash first.

    :raises CouldNotError: if it cannot be made.
    """
    made = BuildEnvironment(directory=work / "environment", work=work, name=name)
    done = uv.run(
        "venv", str(made.directory), "--python", python, "--no-project", "--clear", work=work, indexes=False
    )
    if done.returncode != 0:
        raise _failed("no environment to build in can be made", name, done)
    if requires:
        locked = work / "locked.txt"
        locked.write_text("".join(f"{line}\n" for line in requires), encoding="utf-8")
        done = uv.run(
            "pip", "install", "--python", str(made.python), "--require-hashes", "--only-binary", ":all:",
            "--requirements", str(locked), work=work,
        )  # fmt: skip
        if done.returncode != 0:
            raise _failed(f"the build requirements of {name} cannot be installed", name, done)
    return made


def _failed(what: str, name: str, done: Completed) -> CouldNotError:
    said = redacted(done.stderr.strip() or done.stdout.strip())
    last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
    story = redacted(f"{done.stdout}\n{done.stderr}".strip())
    return CouldNotError(
        what + (f": {last[:200]}" if last else ""),
        at=name,
        do="read the log; or take it from conda: write it outside pip:",
        story=story,
    )
