"""Which of envforge's modules a runtime has: what a node's commands can come to import, and no others."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from envforge.cli.app import COMMANDS
from envforge.runtime.own import every_file, own_files

OF_THE_LAPTOP = {
    "bundle", "demo", "export", "git-driver", "git-setup", "import", "keygen", "lock", "mirror", "render",
    "share",
}  # fmt: skip
"""Everything else works on a node."""
WITHOUT = {
    "cryptography", "cyclonedx", "deflate", "installer", "jinja2", "keyring", "packageurl", "packaging",
    "requests", "rich", "tomli_w", "urllib3", "uv", "yaml",
}  # fmt: skip
"""Libraries that a runtime does not bring."""
STARTED = ("envforge.__main__", "envforge.node.linking.bytecode_worker", "envforge.node.proving.scan_worker")


def module_of(name: str) -> str:
    return ".".join(("envforge", *Path(name).with_suffix("").parts)).removesuffix(".__init__")


SOURCES = {module_of(name): text for name, text in every_file().items() if name.endswith(".py")}


def imported(tree: ast.AST, *, lazily: bool) -> Iterator[str]:
    """The modules that a module imports: when it is imported itself, or later as well."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif lazily or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from imported(node, lazily=lazily)


def test_a_runtime_has_what_the_commands_of_a_node_can_import_and_no_more() -> None:
    """Followed from each command, but not through what a node cannot import: it says so then."""
    trees = {module: ast.parse(text) for module, text in SOURCES.items()}
    at_once = {module: set(imported(tree, lazily=False)) for module, tree in trees.items()}
    unusable = {module for module, names in at_once.items() if {n.partition(".")[0] for n in names} & WITHOUT}
    while more := {module for module, names in at_once.items() if names & unusable} - unusable:
        unusable |= more
    needed: set[str] = set()
    todo = [*STARTED, *(f"envforge.cli.{c.replace('-', '_')}" for c in COMMANDS if c not in OF_THE_LAPTOP)]
    while todo:
        module = todo.pop()
        if module in trees and module not in needed | unusable:
            needed.add(module)
            todo += [*imported(trees[module], lazily=True), module.rpartition(".")[0]]
    assert {module_of(name) for name in own_files() if name.endswith(".py")} == needed


def test_a_command_is_there_unless_it_is_of_the_laptop() -> None:
    assert set(COMMANDS) > OF_THE_LAPTOP
    carried = {module_of(name) for name in own_files()}
    for command in COMMANDS:
        assert (f"envforge.cli.{command.replace('-', '_')}" in carried) is (command not in OF_THE_LAPTOP)
