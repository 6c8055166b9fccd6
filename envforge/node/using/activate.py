"""What a shell sources to use an environment, written into it while it is made.

::

    .envforge/activate.sh, .fish, .csh      enter it; they define ``deactivate``
    .envforge/deactivate.csh                what that is in csh, which has no functions
    .envforge/run                           ``run COMMAND…``: one command in the environment
    .envforge/zsh/.zshenv, .zshrc           how ``envforge shell`` has the last word in zsh
    etc/conda/env_vars.d/envforge.json      what ``conda activate`` sets as well
    bin/activate, .fish, .csh               the first three by the name that people type

The texts lie in ``activation/``; here their ``@PLACES@`` are filled in, quoted for each shell.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ACTIVATE", "RUN", "activation", "fish_quoted", "label", "write_activation"]

ACTIVATE = ".envforge/activate.sh"
"""What bash, dash and zsh source, below the generation."""

RUN = ".envforge/run"
"""The program that runs a command in the environment."""

_TEXTS = Path(__file__).with_name("activation")
_OURS = "etc/conda/env_vars.d/envforge.json"
_LARGEST = 1_000_000  # bytes of a package's list of variables
_RESERVED = frozenset(
    {"CONDA_DEFAULT_ENV", "CONDA_PREFIX", "CONDA_PROMPT_MODIFIER", "CONDA_SHLVL", "ENVFORGE_ID", "PATH"}
)
_SAVED = ("CONDA_SHLVL",)  # what activation sets to something that is known only then
_LEFT_OUT = "***unset***"  # how conda writes a variable of a package that the user wants no more

Settings = Mapping[str, "str | None"]
"""Variables by name; ``None`` for one that is not to be set."""


@dataclass(frozen=True, kw_only=True)
class _Shell:
    """How one family of shells writes things down."""

    suffix: str
    quote: Callable[[str], str]
    set: str
    unset: str

    def settings(self, settings: Settings) -> str:
        return "\n".join(
            self.unset.format(name) if value is None else self.set.format(name, self.quote(value))
            for name, value in settings.items()
        )


def write_activation(tree: Path, final: Path, *, name: str, digest: str) -> None:
    """Write into ``tree`` what activates it where it will lie; the same bytes for the same environment.

    :param tree: where the environment lies now, complete but for this; ``.envforge`` is there.
    :param final: the path that it is linked for.
    :param name: what the environment is called; shown in prompts, so reduced to harmless letters.
    :param digest: the digest of its lock, hex; exported as ``ENVFORGE_ID``.
    """
    shown = label(name)
    settings = activation(tree, final, name=name, digest=digest)
    ours = tree / ".envforge"
    for shell in (_POSIX, _FISH):
        text = _filled(shell, f"activate{shell.suffix}", final, shown, settings)
        _write(ours / f"activate{shell.suffix}", text)
    for file, text in _csh(tree, final, shown, settings).items():
        _write(ours / file, text)
    _write(ours / "run", _filled(_POSIX, "run", final, shown, settings), mode=0o755)
    (ours / "zsh").mkdir()
    for file in ("zshenv", "zshrc"):
        _write(ours / "zsh" / f".{file}", _filled(_POSIX, file, final, shown, settings))
    _tell_conda(tree, settings)
    if _is_plain_directory(tree, "bin"):
        for shell, source in ((_POSIX, "."), (_FISH, "source"), (_CSH, "source")):
            suffix = shell.suffix.removesuffix(".sh")
            path = tree / "bin" / f"activate{suffix}"
            if not os.path.lexists(path):  # a package's own stays
                file = shell.quote(str(final / ".envforge" / f"activate{shell.suffix}"))
                _write(path, f"{source} {file}\n")


def label(name: str) -> str:
    """``name`` in letters that no shell expands in a prompt, and no path or kernel's name stumbles over."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "_", name)[:80] or "environment"


def activation(tree: Path, final: Path, *, name: str, digest: str) -> Settings:
    """Every variable that activation sets but PATH and CONDA_SHLVL, which depend on what was there.

    What the scripts of packages set is known only where they run.  The parameters are those of
    :func:`write_activation`.
    """
    shown = label(name)
    virtual = (tree / "pyvenv.cfg").is_file()
    return {
        "CONDA_PREFIX": str(final),
        "CONDA_DEFAULT_ENV": shown,
        "CONDA_PROMPT_MODIFIER": f"({shown}) ",
        "VIRTUAL_ENV": str(final) if virtual else None,
        "ENVFORGE_ID": f"sha256:{digest}",
        # Modules of the user's home or of another Python would come before those that were locked.
        "PYTHONNOUSERSITE": "1",
        "PYTHONHOME": None,
        "PYTHONPATH": None,
        **_variables_of_packages(tree),
    }


def _variables_of_packages(tree: Path) -> dict[str, str]:
    """What ``etc/conda/env_vars.d/*`` and ``conda-meta/state`` ask for, as conda reads them."""
    asked: dict[str, object] = {}
    folder = tree / "etc/conda/env_vars.d"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        asked |= _read_object(tree, path)
    state = _read_object(tree, tree / "conda-meta/state").get("env_vars")
    asked |= state if isinstance(state, dict) else {}
    found = {}
    for key, value in asked.items():
        name, text = key.upper(), str(value)
        usable = isinstance(value, (str, int, float)) and text != _LEFT_OUT and "\0" not in text
        if usable and re.fullmatch(r"[A-Z_][A-Z0-9_]*", name) and name not in _RESERVED:
            found[name] = text.encode("utf-8", "replace").decode()
    return found


def _read_object(tree: Path, path: Path) -> dict[str, object]:
    """A JSON object of a package; empty where there is none, or none that could be used."""
    try:
        inside = path.resolve().is_relative_to(tree.resolve())
        if not inside or not path.is_file() or path.stat().st_size > _LARGEST:
            return {}
        document = json.loads(path.read_bytes())
    except (OSError, RuntimeError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _tell_conda(tree: Path, settings: Settings) -> None:
    """Have ``conda activate`` set what conda does not know of, in the way that packages do."""
    if not (tree / "conda-meta").is_dir():
        return
    folder, _, file = _OURS.rpartition("/")
    if not _is_plain_directory(tree, folder, make=True) or os.path.lexists(tree / folder / file):
        return
    document = {name: settings[name] for name in ("ENVFORGE_ID", "PYTHONNOUSERSITE")}
    _write(tree / folder / file, json.dumps(document, indent=2) + "\n")


def _is_plain_directory(tree: Path, folder: str, *, make: bool = False) -> bool:
    """Whether ``folder`` is one, and no link of a package leads elsewhere on the way to it."""
    path = tree
    for part in folder.split("/"):
        path = path / part
        if make and not os.path.lexists(path):
            path.mkdir(mode=0o755)
        if path.is_symlink() or not path.is_dir():
            return False
    return True


def _filled(shell: _Shell, file: str, final: Path, shown: str, settings: Settings, **more: str) -> str:
    places = {
        "PREFIX": shell.quote(str(final)),
        "NAME": shown,
        "VARIABLES": " ".join(_SAVED + tuple(settings)),
        "SETTINGS": shell.settings(settings),
        **more,
    }
    text = (_TEXTS / file).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda found: places[found[1]], text)


def _csh(tree: Path, final: Path, shown: str, settings: Settings) -> dict[str, str]:
    save, restore = [], []
    for name in _SAVED + tuple(settings):
        old = f"_ENVFORGE_OLD_{name}"
        # Not in one line: csh looks up the variables of a command that it then does not run.
        save += [f"if ( $?{name} ) then", f"    set {old} = ${name}:q", "endif"]
        restore += [f"unsetenv {name}", f"if ( $?{old} ) then", f"    setenv {name} ${old}:q"]
        restore += [f"    unset {old}", "endif"]
    more = {
        "SAVE": "\n".join(save),
        "RESTORE": "\n".join(restore),
        "ACTIVATE": "\n".join(_csh_sources(tree, final, "activate.d")),
        "DEACTIVATE": "\n".join(reversed(_csh_sources(tree, final, "deactivate.d"))),
    }
    files = ("activate.csh", "deactivate.csh")
    return {file: _filled(_CSH, file, final, shown, settings, **more) for file in files}


def _csh_sources(tree: Path, final: Path, folder: str) -> list[str]:
    """The lines that source a directory's scripts: csh cannot list one without tripping over an empty one."""
    place = f"etc/conda/{folder}"
    names = os.listdir(tree / place) if (tree / place).is_dir() else []  # noqa: PTH208 - names, to be sorted
    usable = (name for name in names if name.endswith(".csh") and name.isprintable())
    return [f"source {_csh_quoted(f'{final}/{place}/{name}')}" for name in sorted(usable)]


def fish_quoted(text: str) -> str:
    """``text`` as one word of fish."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _csh_quoted(text: str) -> str:
    # History is expanded even between single quotes, and a line ends at its end.
    escaped = text.replace("'", "'\\''").replace("!", "\\!").replace("\n", "\\\n")
    return f"'{escaped}'"


def _write(path: Path, text: str, *, mode: int = 0o644) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    path.chmod(mode)


_POSIX = _Shell(suffix=".sh", quote=shlex.quote, set="    export {}={}", unset="    unset {}")
_FISH = _Shell(suffix=".fish", quote=fish_quoted, set="    set -gx {} {}", unset="    set -e {}")
_CSH = _Shell(suffix=".csh", quote=_csh_quoted, set="setenv {} {}", unset="unsetenv {}")
