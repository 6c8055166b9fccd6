"""The shape of the code: arrows point one way, and the node's half stays small."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "envforge"

LAYERS = {
    "errors": -1, "reporting": 0, "settings": 0,
    "model": 1,
    "formats": 2, "edges": 2,
    "resolvers": 3, "node": 3, "layout": 3,
    "lock": 4, "mirror": 4, "download": 4, "render": 4, "demo": 4, "sign": 4, "sbom": 4,
    "bundle": 4, "runtime": 4, "probe": 4, "diff": 4, "tree": 4, "why": 4, "list": 4, "merge": 4,
    "git_setup": 4, "image": 4, "export": 4, "importing": 4, "share": 4,
    "cli": 5, "__main__": 6,
}  # fmt: skip

HEAVY = {"yaml", "requests", "urllib3", "jinja2", "packaging", "rich", "tomli", "click"}


def modules(part: str = "") -> list[Path]:
    return sorted((PACKAGE / part).rglob("*.py"))


def part_of(module: str) -> str:
    pieces = module.split(".")
    return pieces[1] if len(pieces) > 1 else ""


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            if node.module in ("envforge", "envforge.formats", "envforge.resolvers"):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_arrows_point_one_way(path: Path) -> None:
    inside = path.relative_to(PACKAGE)
    own = inside.parts[0].removesuffix(".py")
    if own == "__init__":
        return
    for name in imports_of(path):
        other = part_of(name)
        if not name.startswith("envforge.") or other == own or other.startswith("__"):
            continue
        assert LAYERS[other] < LAYERS[own], f"{inside} imports {name}"


def test_verbs_do_not_meet_each_other() -> None:
    verbs = {name for name, layer in LAYERS.items() if layer == 4}
    for path in modules():
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if own in verbs:
            others = {part_of(name) for name in imports_of(path) if name.startswith("envforge.")}
            assert not others & (verbs - {own}), path


def test_one_module_opens_sockets_and_one_starts_programs() -> None:
    doors = {"requests": "edges/fetch.py", "socket": None, "subprocess": "edges/process.py"}
    for path in modules():
        inside = path.relative_to(PACKAGE).as_posix()
        tops = {name.split(".")[0] for name in imports_of(path)}
        for module, only in doors.items():
            if module in tops and inside != only:
                # The host's name is all that anybody else wants of `socket`.
                assert module == "socket", path
                assert "socket.socket" not in path.read_text(encoding="utf-8"), path
        assert not tops & {"http", "ftplib", "asyncore", "multiprocessing"}, path


def loaded_by(statement: str) -> set[str]:
    tell = "import sys, json, os; print(json.dumps(sorted(sys.modules))); sys.stdout.flush(); os._exit(0)"
    out = subprocess.run(
        [sys.executable, "-c", f"{statement}; {tell}"], capture_output=True, text=True, check=True
    )
    names = set(json.loads(out.stdout.splitlines()[-1]))
    return names | {name.split(".")[0] for name in names}


def test_the_node_half_needs_no_yaml_http_client_or_templates() -> None:
    names = [
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        for path in modules("node")
        if path.name != "__init__.py"
    ]
    assert not loaded_by(f"import {', '.join(names)}") & HEAVY


def test_help_imports_no_engine() -> None:
    loaded = loaded_by("from envforge.cli.app import run; run(['--help'])")
    assert not loaded & {"rattler", "yaml", "requests", "jinja2", "rich", "packaging", "asyncio"}


@pytest.mark.parametrize("name", ["install", "keygen", "sbom", "verify"])
def test_signatures_and_bills_are_paid_for_by_those_who_want_them(name: str) -> None:
    loaded = loaded_by(f"import envforge.cli.{name}, envforge.node.sources.signatures")
    assert not loaded & {"securesystemslib", "cryptography", "cyclonedx", "packageurl"}


@pytest.mark.parametrize("name", ["verify", "run", "shell", "wrap", "kernel"])
def test_what_must_start_fast_imports_no_engine(name: str) -> None:
    loaded = loaded_by(
        f"import envforge.cli.{name}, envforge.node.{'verify' if name == 'verify' else 'using.processes'}"
    )
    assert not loaded & {"rattler", "yaml", "requests", "jinja2", "rich", "packaging"}


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_modules_and_functions_stay_readable(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 420
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}: {node.name}"
