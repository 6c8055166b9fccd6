"""Choices that hold for every command: what they are, and where each was made.

Later ones win: built in, the site's ``/etc/envforge/config.toml``, the user's ``config.toml``, the table
``[tool.envforge]`` of a ``pyproject.toml`` in the working directory, the variables ``ENVFORGE_…``.  The
command line comes after all of them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from envforge.errors import CouldNotError, InputError

__all__ = [
    "FROM_BUNDLE",
    "KEYS",
    "Key",
    "Setting",
    "Settings",
    "cache_directory",
    "load_settings",
    "log_file",
    "store_layers",
    "use_log_file",
    "users_file",
    "variable_of",
]

FROM_BUNDLE = "ENVFORGE_FROM_BUNDLE"
"""The variable in which a bundle's header says which bundle this envforge was unpacked from."""

Kind = Literal["path", "paths", "text", "texts", "channels", "flag", "table"]
_SITE = Path("/etc/envforge/config.toml")
_LIMIT = 1_000_000
_log: list[Path] = []


@dataclass(frozen=True, kw_only=True)
class Key:
    """One thing that can be set: of which kind, what it is for, and whether a project may set it.

    A ``pyproject.toml`` may come from anywhere; it does not decide whom to trust.
    """

    kind: Kind
    help: str
    by_project: bool = True


KEYS: Mapping[str, Key] = {
    "cache": Key(kind="path", help="where repodata, metadata and downloads are kept", by_project=False),
    "store": Key(kind="paths", help="the layers of the store; the last is written to", by_project=False),
    "channels": Key(kind="channels", help="channels to lock with where the specification names none"),
    "indexes": Key(kind="texts", help="simple indexes, the default one first, where nothing else names one"),
    "allowed-channels": Key(kind="channels", help="the only channels that may be used", by_project=False),
    "trusted-keys": Key(kind="path", help="the keys that may sign bundles", by_project=False),
    "base-image": Key(kind="text", help="the image that recipes start from"),
    "registry": Key(kind="text", help="the registry, and the path in it, that images are copied to"),
    "mirrors": Key(kind="table", help="where to fetch what lies below a URL", by_project=False),
    "provides": Key(kind="table", help="the distributions that a conda package brings"),
    "ca-certificates": Key(kind="path", help="a site's certificates, as PEM", by_project=False),
    "client-certificates": Key(
        kind="table", help="the certificate, and its key, to show to a host", by_project=False
    ),
    "keyring": Key(kind="flag", help="whether the keyring is asked for passwords", by_project=False),
}
"""Every key of a settings file."""

_BUILT_IN: Mapping[str, Any] = {"keyring": True}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A value, and where it was said: ``built in``, ``FILE``, or a variable's name."""

    value: Any
    origin: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is set, by key; what is not set is not in it."""

    found: Mapping[str, Setting] = field(default_factory=dict)

    def _value(self, key: str) -> Any:
        return self.found[key].value if key in self.found else None

    def texts(self, key: str) -> tuple[str, ...]:
        """The texts of ``key``; empty where it is not set."""
        return tuple(self._value(key) or ())

    def text(self, key: str) -> str | None:
        """The text of ``key``, or ``None``."""
        value = self._value(key)
        return None if value is None else str(value)

    def path(self, key: str) -> Path | None:
        """The path of ``key``, or ``None``."""
        text = self.text(key)
        return None if text is None else Path(text)

    def paths(self, key: str) -> tuple[Path, ...]:
        """The paths of ``key``; empty where it is not set."""
        return tuple(map(Path, self.texts(key)))

    def flag(self, key: str) -> bool:
        """Whether ``key`` is set to true."""
        return bool(self._value(key))

    def table(self, key: str) -> Mapping[str, tuple[str, ...]]:
        """The texts of each name in the table ``key``."""
        return dict(self._value(key) or {})


def load_settings(
    directory: Path | None = None, environment: Mapping[str, str] | None = None, *, site: Path = _SITE
) -> Settings:
    """What is set for a command that is started in ``directory``.

    :param directory: where a ``pyproject.toml`` is looked for; the working directory without one.
    :param environment: the variables; this process's without one.
    :raises InputError: for a file that is no TOML, a key that is not known, a value of another kind.
    :raises CouldNotError: for a file that cannot be read.
    """
    environment = os.environ if environment is None else environment
    found = {key: Setting(value=value, origin="built in") for key, value in _BUILT_IN.items()}
    for path in filter(None, (site, users_file(environment))):
        found.update(_from_table(_toml(path), str(path), base=path.parent))
    project = (directory or Path()) / "pyproject.toml"
    tool = _toml(project).get("tool")
    own = tool.get("envforge", {}) if isinstance(tool, dict) else {}
    found.update(_from_table(own, f"{project} [tool.envforge]", base=project.parent, project=True))
    for key, known in KEYS.items():
        variable = variable_of(key)
        if environment.get(variable) and known.kind != "table":
            value = _checked(key, _from_variable(known.kind, environment[variable]), variable, Path())
            found[key] = Setting(value=value, origin=variable)
    return Settings(found=found)


def variable_of(key: str) -> str:
    """The variable that sets ``key``: ``ENVFORGE_TRUSTED_KEYS``."""
    return "ENVFORGE_" + key.upper().replace("-", "_")


def users_file(environment: Mapping[str, str] | None = None) -> Path | None:
    """``ENVFORGE_CONFIG``, else the one in the XDG configuration directory; none without a home directory.

    :raises InputError: if ``ENVFORGE_CONFIG`` names no file.
    """
    environment = os.environ if environment is None else environment
    named = environment.get("ENVFORGE_CONFIG")
    if named:
        if not Path(named).is_file():
            raise InputError("no such file", at=named, do="unset ENVFORGE_CONFIG, or write that file")
        return Path(named)
    base = environment.get("XDG_CONFIG_HOME") or environment.get("APPDATA")
    if not base:
        home = environment.get("HOME")
        base = str(Path(home) / ".config") if home else None
    return Path(base) / "envforge" / "config.toml" if base else None


def _toml(path: Path) -> dict[str, Any]:
    """What a file says; nothing where there is none."""
    try:
        with path.open("rb") as file:
            content = file.read(_LIMIT + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise CouldNotError(
            f"the settings cannot be read: {error.strerror or error}", at=str(path), do=f"ls -l '{path}'"
        ) from error
    if path.name == "pyproject.toml" and b"envforge" not in content:
        return {}
    if len(content) > _LIMIT:
        raise InputError("too large for settings", at=str(path), do="name the right file")
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        found: dict[str, Any] = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"no TOML: {error}", at=str(path), do="correct that line") from error
    return found


def _from_table(table: object, origin: str, *, base: Path, project: bool = False) -> dict[str, Setting]:
    if not isinstance(table, dict):
        raise InputError("no table", at=origin, do="write KEY = VALUE below it")
    found = {}
    for key, value in table.items():
        if key not in KEYS:
            import difflib

            close = difflib.get_close_matches(key, KEYS, n=1)
            raise InputError(
                f"unknown setting {key!r}",
                at=origin,
                do=f"did you mean {close[0]}?" if close else "envforge config   # lists them",
            )
        if project and not KEYS[key].by_project:
            raise InputError(
                f"a project may not set {key}", at=origin, do="write it into your own config.toml"
            )
        found[key] = Setting(value=_checked(key, value, origin, base), origin=origin)
    return found


def _from_variable(kind: Kind, text: str) -> Any:
    if kind == "paths":
        return [part for part in text.split(os.pathsep) if part]
    if kind in ("texts", "channels"):
        return text.split()
    if kind == "flag":
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}.get(
            text.lower(), text
        )
    return text


def _checked(key: str, value: object, origin: str, base: Path) -> Any:
    """``value`` if it is of the kind of ``key``; paths are relative to the file that names them."""
    kind = KEYS[key].kind
    wrong = InputError(f"{key} is not {_WORDS[kind]}", at=origin, do=f"write {key} = {_EXAMPLES[kind]}")
    if kind == "flag":
        if not isinstance(value, bool):
            raise wrong
        return value
    if kind == "table":
        if not isinstance(value, dict):
            raise wrong
        return {name: _texts(one, wrong) for name, one in value.items()}
    if kind in ("texts", "paths", "channels"):
        texts = _texts(value, wrong)
        # A channel is a name, a URL, or the path of a directory.
        paths = {"paths": ("",), "channels": (".", "/", "~")}.get(kind, ())
        return tuple(_absolute(text, base) if text.startswith(paths) else text for text in texts)
    if not isinstance(value, str) or not value:
        raise wrong
    return _absolute(value, base) if kind == "path" else value


_WORDS = {
    "path": "a path",
    "paths": "a list of paths",
    "text": "a text",
    "texts": "a list of texts",
    "channels": "a list of channels",
    "flag": "true or false",
    "table": "a table",
}
_EXAMPLES = {
    "path": '"/PATH"',
    "paths": '["/PATH"]',
    "text": '"TEXT"',
    "texts": '["TEXT"]',
    "channels": '["conda-forge"]',
    "flag": "true",
    "table": '{ "NAME" = ["TEXT"] }',
}


def _texts(value: object, wrong: InputError) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) and item for item in items):
        raise wrong
    return tuple(items)


def _absolute(text: str, base: Path) -> str:
    return str((base / Path(text).expanduser()).absolute())


def cache_directory() -> Path:
    """Repodata, metadata and downloads of the laptop's half: the setting, else the XDG cache."""
    named = load_settings().path("cache")
    if named:
        return named
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "envforge"


def store_layers(named: tuple[Path, ...], default: Path) -> tuple[Path, tuple[Path, ...]]:
    """The layer to write to and the layers to read.

    ``--store SITE --store MINE``: the last is written to, the others are read.  Without one, the setting
    (``ENVFORGE_STORE``: several separated by ``:``), else ``default``.
    """
    paths = named or load_settings().paths("store")
    if not paths:
        return default, ()
    # Absolute: programs that are started elsewhere are given paths in it.
    *lower, top = (path.absolute() for path in paths)
    return top, tuple(lower)


def use_log_file(path: Path) -> None:
    """Have the story of a failure written to ``path``, if its directory exists: beside the prefix."""
    _log[:] = [path]


def log_file(*, make: bool = True) -> Path | None:
    """Where the story of a failure goes: as told, else into the XDG state directory, which is made.

    ``None`` where there is no such place: on a node nothing is written below the home directory.

    :param make: whether there is something to say that is worth making a place for.

    :raises OSError: if the state directory cannot be made.
    """
    if _log:
        return _log[0] if _log[0].parent.is_dir() else None
    if not make or Path(sys.prefix).name == "runtime":  # out of a bundle: this is a node
        return None
    base = os.environ.get("XDG_STATE_HOME")
    path = (Path(base) if base else Path.home() / ".local" / "state") / "envforge" / "log.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
