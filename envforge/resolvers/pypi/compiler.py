"""Starting uv: what it is given, and what it comes to."""

from __future__ import annotations

import json
import re
import sys
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from packaging.pylock import Pylock
from packaging.version import InvalidVersion, Version

from envforge.edges.credentials import RefusedError
from envforge.edges.fetch import Fetcher
from envforge.edges.process import Command, Completed, run, uv_executable
from envforge.errors import CouldNotError, EnvforgeError
from envforge.model.lockfile import canonical_name
from envforge.model.moments import cutoff, moment_text
from envforge.resolvers.certificates import certificate_variables
from envforge.resolvers.pypi.choice import read_pylock
from envforge.resolvers.pypi.clash import clashing_url
from envforge.resolvers.pypi.failures import is_refusal, translated
from envforge.resolvers.pypi.missing import UnknownProjectError
from envforge.resolvers.pypi.places import is_folder
from envforge.resolvers.pypi.request import PINS, PypiRequest, Wanted
from envforge.resolvers.pypi.stubs import Stub
from envforge.resolvers.pypi.target import uv_platform

__all__ = ["Compiler"]

_RETRIES = 3
_PINS = "pins/pyproject.toml"
_PAGE = 1 << 25
"""No page of a project is longer, in bytes."""


@dataclass(kw_only=True)
class Compiler:
    """One call of the resolver, which may start uv several times.

    uv takes a project from one index only where a requirement of a *project's file* says so.  Therefore the
    requirements with an index of their own are written as such a file, and a project that is needed by others
    alone is added to it once it is known to be needed: ``needed``.  ``not_needed`` are those of which that
    was wrong.
    """

    request: PypiRequest
    direct: tuple[Wanted, ...]
    constraints: tuple[Wanted, ...]
    cache: Path
    offline: bool
    needed: set[str] = field(default_factory=set)
    not_needed: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        before = {canonical_name(name) for name, _ in self.request.preferred}
        self.needed |= self._new(before)

    def compiled(self, stubs: Mapping[str, Stub]) -> Pylock:
        """What uv comes to.

        :raises EnvforgeError: what stands for uv's failure.
        """
        clash = clashing_url(self.direct, stubs)
        if clash is not None:
            raise clash
        while True:
            outcome = self._once(stubs)
            if isinstance(outcome, Completed):
                new = self._new(self._mentioned(outcome)) - stubs.keys()
                if not new:
                    raise self._failure(outcome, stubs)
            else:
                new = self._new({canonical_name(package.name) for package in outcome.packages})
                if not new:
                    return outcome
            self.needed |= new

    def _once(self, stubs: Mapping[str, Stub]) -> Pylock | Completed:
        with tempfile.TemporaryDirectory(prefix="envforge-") as directory:
            work = Path(directory)
            self._write_input(work, stubs)
            done = run(self._command(work, stubs))
            if done.returncode == 0:
                return read_pylock((work / "pylock.toml").read_text(encoding="utf-8"))
        places = self.request.places
        done = self._with_refusal(done)
        if places.refused or not places.access.keyring or not is_refusal(done.stderr):
            return done
        self.request = replace(self.request, places=replace(places, refused=True))
        return self._once(stubs)

    def _with_refusal(self, done: Completed) -> Completed:
        """With what uv leaves unsaid of the index of one project: that it has refused us."""
        places = self.request.places
        fetcher = Fetcher(offline=self.offline, retries=0, access=replace(places.access, keyring=False))
        for name in sorted(self._mentioned(done)) if "was not found in" in done.stderr else ():
            page = f"{places.fetched(places.pinned[name]).rstrip('/')}/{name}/"
            try:
                fetcher.read(page, limit=_PAGE)
            except RefusedError as error:
                return replace(done, stderr=f"{done.stderr}\nhint: {error.at}: {error.what}\n")
            except CouldNotError:
                continue
        return done

    def _failure(self, done: Completed, stubs: Mapping[str, Stub]) -> EnvforgeError:
        error = translated(
            done.stderr, self.request, self.direct, self.constraints, stubs, offline=self.offline
        )
        if isinstance(error, UnknownProjectError):
            self._add_others(error, stubs)
        return error

    def _add_others(self, error: UnknownProjectError, stubs: Mapping[str, Stub]) -> None:
        """Uv stops at the first project that it does not find; a person wants to hear of all."""
        others = tuple(one for one in self.direct if one.name not in error.projects)
        if not others or len(others) == len(self.direct):
            return
        try:
            replace(self, direct=others).compiled(stubs)
        except UnknownProjectError as more:
            error.add(more)
        except EnvforgeError:
            return

    def forget(self, unneeded: Collection[str]) -> bool:
        """Leave out what was thought to be needed and is not; whether that changes anything."""
        wrong = self.needed & set(unneeded)
        self.needed -= wrong
        self.not_needed |= wrong
        return bool(wrong)

    def _new(self, names: Collection[str]) -> set[str]:
        known = {one.name for one in self.direct} | self.needed | self.not_needed
        return set(names) & self.request.places.pinned.keys() - known

    def _mentioned(self, done: Completed) -> set[str]:
        return {
            name
            for name in self.request.places.pinned
            if re.search(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", done.stderr)
        }

    def _write_input(self, work: Path, stubs: Mapping[str, Stub]) -> None:
        constraints = [stub.constraint(self.cache / "stubs") for stub in stubs.values()]
        constraints += [f"{name} @ {url}" for name, url in self.request.built if name not in stubs]
        constraints += map(str, self.constraints)
        tied = [one for one in self.direct if self._is_tied(one, stubs)]
        plain = [str(one) for one in self.direct if one not in tied]
        for name, lines in (("requirements.in", plain), ("constraints.txt", constraints)):
            (work / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        places = self.request.places
        by_name = [(one.name, str(one)) for one in tied] + [(name, name) for name in sorted(self.needed)]
        if by_name:
            pinned = {name: places.fetched(places.pinned[name]) for name, _ in by_name}
            (work / "pins").mkdir()
            (work / _PINS).write_text(_pins(by_name, pinned), encoding="utf-8")
        preferred = _preferences(self.request.preferred)
        if preferred:
            (work / "pylock.toml").write_text(preferred, encoding="utf-8")

    def _is_tied(self, one: Wanted, stubs: Mapping[str, Stub]) -> bool:
        is_free = one.name in stubs or one.requirement.url is not None
        return one.name in self.request.places.pinned and not is_free

    def _command(self, work: Path, stubs: Mapping[str, Stub]) -> Command:
        request = self.request
        platform, variables = uv_platform(request.target)
        options, indexes = request.places.options()
        has_pins = (work / _PINS).is_file()
        if has_pins and "--no-index" in options:  # that would forbid the others, too
            (work / "empty").mkdir()
            options, indexes = [], {**indexes, "UV_DEFAULT_INDEX": (work / "empty").as_uri()}
        argv = [
            uv_executable(), "pip", "compile", "requirements.in", *([_PINS] if has_pins else []),
            "--no-config", "--no-python-downloads", "--no-progress", "--color", "never",
            "--cache-dir", str(self.cache),
            "--python-version", request.python_version,
            "--python-platform", platform,
            "--only-binary", ":all:",
            "--format", "pylock.toml", "--output-file", "pylock.toml",
            "--no-header", "--no-annotate",
            "--constraints", "constraints.txt",
            *options,
        ]  # fmt: skip
        if sys.executable:  # any interpreter will do, but one it must be; this one is there
            argv += ["--python", sys.executable]
        argv += [word for name in request.no_binary for word in ("--no-binary", name)]
        argv += [word for name in stubs for word in ("--no-emit-package", name)]
        if request.exclude_newer is not None:
            argv += ["--exclude-newer", moment_text(cutoff(request.exclude_newer))]
        if request.prerelease:
            argv += ["--prerelease", "allow"]
        if self.offline:
            argv += ["--offline"]
        # uv leaves its interpreter locks in the temporary directory: let that be one that goes away.
        env = {
            "UV_HTTP_RETRIES": str(_RETRIES),
            "TMPDIR": str(work),
            **variables,
            **indexes,
            **certificate_variables(request.places.access),
        }
        return Command(argv=tuple(argv), cwd=work, env=env, network=not self.offline)


def _pins(tied: Sequence[tuple[str, str]], pinned: Mapping[str, str]) -> str:
    """A project's file that requires ``tied``, names with requirements, each from its one index."""
    names = sorted({name for name, _ in tied})
    urls = sorted({pinned[name] for name in names})
    lines = ["[project]", f'name = "{PINS}"', 'version = "0"', "dependencies = ["]
    lines += [f"{json.dumps(requirement)}," for _, requirement in tied]
    lines += ["]", "[tool.uv.sources]"]
    lines += [f'{json.dumps(name)} = {{ index = "i{urls.index(pinned[name])}" }}' for name in names]
    for number, url in enumerate(urls):
        lines += ["[[tool.uv.index]]", f'name = "i{number}"', f"url = {json.dumps(url)}", "explicit = true"]
        lines += ['format = "flat"'] if is_folder(url) else []
    return "\n".join(lines) + "\n"


def _preferences(preferred: Sequence[tuple[str, str]]) -> str:
    """An earlier output of uv as far as uv looks at one: names and versions."""
    lines = []
    for name, version in preferred:
        try:
            lines.append(f'[[packages]]\nname = "{canonical_name(name)}"\nversion = "{Version(version)}"\n')
        except InvalidVersion:
            continue
    return 'lock-version = "1.0"\ncreated-by = "envforge"\n\n' + "\n".join(lines) if lines else ""
