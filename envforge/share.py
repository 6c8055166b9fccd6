"""``share``: a folder to send to collaborators, whatever tool they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files

from envforge.errors import InputError
from envforge.formats import (
    conda_lock,
    explicit_txt,
    hashed_requirements,
    pixi_lock,
    pixi_manifest,
    pylock_toml,
)
from envforge.formats._halves import PYPI, python_of, shown_name
from envforge.model.foreign import Loss, Written
from envforge.model.lockfile import Lockfile

__all__ = ["Shared", "share"]


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A section of the README: what to paste, and what the tool cannot give."""

    title: str
    block: str
    note: str


@dataclass(frozen=True, kw_only=True)
class Shared:
    """The files of the folder by name, and what is in none of them."""

    files: dict[str, str]
    losses: tuple[Loss, ...] = ()
    written: tuple[Written, ...] = ()


@dataclass
class _Folder:
    lockfile: Lockfile
    files: dict[str, str] = field(default_factory=dict)
    written: list[Written] = field(default_factory=list)
    tools: list[Tool] = field(default_factory=list)
    listed: list[tuple[str, str]] = field(default_factory=list)

    @property
    def first(self) -> str:
        return next(iter(self.lockfile.platforms))

    def has(self, manager: str) -> bool:
        return any(row.manager == manager and row.category == "main" for row in self.lockfile.packages)

    @property
    def python(self) -> str:
        """The version that the wheels are for, as commands name it; empty if it is not locked."""
        rows = (row for row in self.lockfile.packages if row.platform == self.first)
        return ".".join((python_of(rows) or "").split(".")[:2])

    def add(self, filename: str, text: str, what: str) -> None:
        self.files[filename] = text
        self.listed.append((filename, what))

    def add_written(self, written: Written, what: str) -> None:
        self.written.append(written)
        self.add(written.filename, written.text, what)


def share(lockfile: Lockfile) -> Shared:
    """The folder for ``lockfile``.

    :raises InputError: if two groups lock a package differently, so that no file can hold both, or if nothing
        is locked.
    """
    if not lockfile.packages:
        raise InputError("it locks no packages", at=shown_name(lockfile), do="lock some: envforge lock")
    folder = _Folder(lockfile)
    folder.add("conda-lock.yml", conda_lock.write(lockfile), "the lockfile: all platforms, all groups")
    _conda(folder)
    _pixi(folder)
    _pypi(folder)
    _envforge(folder)
    lost = _in_none(folder)
    folder.files["README.md"] = _readme(folder, lost)
    return Shared(files=folder.files, losses=lost, written=tuple(folder.written))


def _conda(folder: _Folder) -> None:
    if not folder.has("conda"):
        return
    for platform in folder.lockfile.platforms:
        folder.add_written(
            explicit_txt.write(folder.lockfile, platform),
            f"conda packages for {platform}, for conda and mamba",
        )
    first = f"explicit.{folder.first}.txt"
    pip = ""
    if folder.has("pip"):
        pip = (
            f"\nconda run --prefix ./env python -m pip install --no-deps --require-hashes"
            f" -r requirements.{folder.first}.txt"
        )
    folder.tools.append(
        Tool(
            title="conda, 24.9 or newer",
            block=f"conda create --prefix ./env --file {first}{pip}",
            note="conda checks the sha256 of what it downloads, and not whether the platform offers what was "
            "assumed. It makes no note of what was asked for, so `conda update` may change anything.",
        )
    )
    folder.tools.append(
        Tool(
            title="micromamba",
            block="micromamba create --prefix ./env --file conda-lock.yml",
            note="Conda and PyPI packages alike; PyPI packages are fetched by pip.",
        )
    )


def _pixi(folder: _Folder) -> None:
    if not folder.has("conda"):
        return
    folder.add_written(pixi_lock.write(folder.lockfile), "the lockfile of pixi: all platforms, all groups")
    folder.add("pixi.toml", pixi_manifest.write(folder.lockfile), "what pixi takes the lock to be for")
    folder.tools.append(
        Tool(
            title="pixi, 0.68 or newer",
            block="pixi install --frozen",
            note="Conda and PyPI packages alike, into `.pixi/envs`; each group is an environment. "
            "`pixi.toml` asks for the packages that no other one needs, at their locked versions.",
        )
    )


def _pypi(folder: _Folder) -> None:
    if not folder.has("pip"):
        return
    for platform in folder.lockfile.platforms:
        folder.add_written(
            hashed_requirements.write(folder.lockfile, platform), f"PyPI packages for {platform}, with hashes"
        )
        folder.add_written(
            pylock_toml.write(folder.lockfile, platform), f"PyPI packages for {platform}, as PEP 751 has it"
        )
    python = f"python{folder.python}" if folder.python else "python3"
    pip = f"{python} -m venv env\nenv/bin/python -m pip install --no-deps"
    version = f"--python {folder.python} " if folder.python else ""
    uv = f"uv venv {version}env\nuv pip install --python env --no-deps"
    without = " Conda packages are not in it: they must be there already." if folder.has("conda") else ""
    pylock, by_url = f"-r pylock.{folder.first}.toml", f"PyPI packages, by URL and sha256.{without}"
    requirements = f"--require-hashes -r requirements.{folder.first}.txt"
    by_name = f"PyPI packages, by version and sha256, from your index.{without}"
    folder.tools += [
        Tool(title="pip, 26.1 or newer", block=f"{pip} {pylock}", note=by_url),
        Tool(title="pip, older", block=f"{pip} {requirements}", note=by_name),
        Tool(title="uv", block=f"{uv} {pylock}", note=by_url),
    ]


def _envforge(folder: _Folder) -> None:
    folder.tools.append(
        Tool(
            title="envforge",
            block="envforge install conda-lock.yml --prefix ./env",
            note="All of it, checked against the lock, with a receipt that `envforge verify` proves it by.",
        )
    )


def _in_none(folder: _Folder) -> tuple[Loss, ...]:
    """Packages that no file but the lockfile holds: another tool cannot have them."""
    held = {PYPI}
    found: dict[str, set[str]] = {}
    for written in folder.written:
        for lost in written.losses:
            if lost.what not in held and lost.packages and written.platform is None:
                found.setdefault(lost.what, set()).update(lost.packages)
    return tuple(Loss(what=what, packages=tuple(sorted(names))) for what, names in sorted(found.items()))


def _readme(folder: _Folder, lost: Sequence[Loss]) -> str:
    from jinja2 import Environment, StrictUndefined

    template = (files("envforge") / "templates" / "share.md.j2").read_text(encoding="utf-8")
    # Markdown, not HTML; names and platforms are words.
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701
    )
    return environment.from_string(template).render(
        name=shown_name(folder.lockfile),
        platforms=folder.lockfile.platforms,
        first=folder.first,
        tools=folder.tools,
        files=folder.listed,
        lacking="; ".join(f"{one.what}: {', '.join(one.packages)}" for one in lost),
    )
