"""``import envforge``: its names are a promise, its functions those of the command line."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import envforge
from envforge.demo.channel import ChannelBuilder
from tests.lock.world import package
from tests.test_architecture import HEAVY, loaded_by

PACKAGE = Path(envforge.__file__).parent
ERRORS = {"AnswerNo", "BusyError", "CouldNotError", "EnvforgeError", "InputError", "UnsatisfiableError"}
NOUNS = {
    "Branch", "BundleOptions", "BundleSource", "Change", "Difference", "EnvironmentSpec", "Fetcher",
    "FileRecord", "Graph", "Holding", "InstallOptions", "Line", "LockDifference", "LockOptions",
    "LockedChannel", "LockedPackage", "Lockfile", "LockfileInput", "Manifest", "MirrorOptions",
    "MirrorSource", "Prefix", "Presence", "Receipt", "Recorder", "Reporter", "Store", "Target",
    "VirtualPackage", "ExportOptions", "ForeignLock", "ImportOptions", "ImportPorts", "Imported", "Loss",
    "Shared", "Written", "Asked", "BundleResult", "ClusterProfile", "InstallResult", "MirrorResult", "Moment",
    "Need", "Node", "Pair", "Reason", "Survey", "Unmet", "Verification",
}  # fmt: skip
VERBS = {
    "bundle", "check", "diff", "graph_of", "history", "holding", "install", "lock", "mirror", "read_lockfile",
    "read_specification", "rollback", "sbom", "survey", "targets_for", "tree", "uninstall", "verify", "why",
    "write_lockfile", "export", "import_lock", "probe", "read_foreign", "read_prefix", "share",
}  # fmt: skip
"""Whoever takes one away, or gives it another meaning, says so in the changelog."""


def test_its_names() -> None:
    assert set(envforge.__all__) == ERRORS | NOUNS | VERBS | {"__version__"}
    assert envforge.__all__ == sorted(envforge.__all__)
    assert dir(envforge) == envforge.__all__
    with pytest.raises(AttributeError, match="no attribute 'unknown'"):
        _ = envforge.unknown  # type: ignore[attr-defined]


def test_nothing_is_imported_before_it_is_used() -> None:
    assert not {name for name in loaded_by("import envforge") if name.startswith("envforge.")}
    assert not loaded_by("import envforge; envforge.LockedPackage, envforge.diff, envforge.tree") & (
        HEAVY | {"rattler"}
    )


@pytest.mark.parametrize("name", sorted(NOUNS | VERBS | ERRORS))
def test_it_is_documented_and_typed(name: str) -> None:
    value = getattr(envforge, name)
    assert inspect.getdoc(value), name
    assert inspect.isclass(value) == (name not in VERBS)
    if name in VERBS:
        hints = get_type_hints(value, localns=_known(value))
        assert set(inspect.signature(value).parameters) | {"return"} == set(hints)


def _known(value: object) -> dict[str, Any]:
    """What its module imports for annotations alone."""
    tree = ast.parse(inspect.getsource(sys.modules[str(getattr(value, "__module__", ""))]))
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.asname or alias.name: getattr(importlib.import_module(str(node.module)), alias.name, None)
        for node in nodes
        if str(node.module).startswith("envforge")
        for alias in node.names
    }


def test_what_is_typed_is_what_is_given() -> None:
    """The names that a type checker sees, and the places that they are loaded from, are two lists."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    typed = next(node for node in tree.body if isinstance(node, ast.If))
    seen = set()
    for node in typed.body:
        assert isinstance(node, ast.ImportFrom)
        for alias in node.names:
            name = alias.asname or alias.name
            seen.add(name)
            assert getattr(envforge, name) is getattr(importlib.import_module(str(node.module)), alias.name)
    assert seen == ERRORS | NOUNS | VERBS


def test_a_verb_stays_the_function_whatever_is_imported() -> None:
    for name in VERBS:
        for module in (f"envforge.{name}", f"envforge.{name}.run"):
            try:
                importlib.import_module(module)
            except ModuleNotFoundError:
                continue
        assert inspect.isfunction(getattr(envforge, name)), name


def test_the_command_line_calls_it() -> None:
    called: set[object] = set()
    for path in sorted((PACKAGE / "cli").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("envforge"):
                module = importlib.import_module(str(node.module))
                found = [getattr(module, alias.name, None) for alias in node.names]
                called |= {one for one in found if inspect.isfunction(one)}
                for one in filter(inspect.ismodule, found):  # such as conda_lock.read
                    called |= {getattr(one, "read", None), getattr(one, "write", None)}
    assert not {name for name in VERBS if getattr(envforge, name) not in called}


def test_a_program(tmp_path: Path) -> None:
    """From a specification to an answer, with nothing but ``import envforge``."""
    channel = ChannelBuilder(tmp_path / "channel")
    for one in (package("top", "1", "low"), package("low", "1"), package("low", "2")):
        channel.add(one)
    channel.write_index()
    text = f"channels: [{channel.url}]\nplatforms: [linux-64]\ndependencies: [top, low=1]\n"

    def locked(words: str, previous: envforge.Lockfile | None = None) -> envforge.Lockfile:
        spec = envforge.read_specification(["environment.yml"], read={"environment.yml": words}.__getitem__)
        options = envforge.LockOptions()
        return envforge.lock(
            spec,
            envforge.targets_for(spec, options, previous, "linux-64"),
            options=options,
            previous=previous,
            base=tmp_path,
            sources=["environment.yml"],
            cache=tmp_path / "cache",
            fetcher=envforge.Fetcher(),
            reporter=envforge.Recorder(),
        )

    old = locked(text)
    new = locked(text.replace("low=1", "low=2"), old)
    (change,) = envforge.diff(old, new).changes
    assert (change.kind, change.name, change.old, change.new) == ("upgraded", "low", "1", "2")
    (tmp_path / "conda-lock.yml").write_text(envforge.write_lockfile(new))
    held = envforge.holding(str(tmp_path / "conda-lock.yml"))
    assert held.lockfile == new
    (found,) = envforge.why(held, "low", ["linux-64"])
    assert [reason.asked.text for reason in found.reasons] == ["top"]
    graph = envforge.graph_of(new, "linux-64")
    assert [branch.node.name for branch in envforge.tree(graph, graph.roots())] == ["top"]
    with pytest.raises(envforge.AnswerNo):
        envforge.why(held, "nothing", ["linux-64"])


def test_what_cannot_be_answered_is_one_of_its_errors(capfd: pytest.CaptureFixture[str]) -> None:
    empty = envforge.Lockfile(packages=(), channels=(), platforms=("linux-64",))
    graph = envforge.graph_of(empty, "linux-64")
    for asked in (
        lambda: envforge.share(empty),
        lambda: envforge.tree(graph, [("conda", "python")]),
        lambda: envforge.read_prefix(Path("/no/such/place"), host="linux-64"),
        lambda: envforge.read_specification([], read=str),
    ):
        with pytest.raises(envforge.EnvforgeError) as caught:
            asked()
        assert caught.value.at
        assert caught.value.do
    assert capfd.readouterr() == ("", "")


def test_every_name_is_in_the_reference() -> None:
    from tests.docs.sandbox import ROOT

    page = (ROOT / "docs" / "reference" / "python.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted([*named, "__version__"]) == envforge.__all__
