"""What the documentation says is what the code does: lines are run, names compared, links followed."""

from __future__ import annotations

import ast
import dataclasses
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import click
import pytest

import envforge
from envforge import errors, settings
from envforge.cli.app import cli
from envforge.edges import process, signing
from envforge.model import platforms
from envforge.model.receipt import FileRecord, Receipt
from envforge.node import preflight
from tests.conftest import once
from tests.docs.sandbox import PAGES, ROOT, Block, Outside, Sandbox, blocks, printed, runs, starts_with

PACKAGE = Path(envforge.__file__).parent
REFERENCE = ROOT / "docs" / "reference"
RUN_PAGES = [page for page in PAGES if page.name == "README.md" or page.parent.name == "how-to"]
ANCHOR = re.compile(r"[^\w\- ]")


def label(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# -- what is run ---------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    return once(tmp_path_factory, "outside", Outside.build)


@pytest.fixture(scope="session")
def stock(tmp_path_factory: pytest.TempPathFactory, outside: Outside) -> Path:
    """What pages start with: the specification of the first how-to page, locked and mirrored."""
    page = ROOT / "docs" / "how-to" / "lock-for-a-cluster.md"
    text = next(block.text for block in blocks(page) if block.mark == "file")

    def make(root: Path) -> Path:
        with Sandbox.open(root, outside) as sandbox:
            sandbox.write("environment.yml", text)
            status, out = sandbox.run("envforge lock && envforge mirror conda-lock.yml mirror")
            assert status == 0, out
            return sandbox.work

    return once(tmp_path_factory, "stock", make)


@pytest.mark.parametrize("page", [page for page in RUN_PAGES if any(map(runs, blocks(page)))], ids=label)
def test_the_lines_of_a_page_do_what_it_says(
    page: Path, stock: Path, outside: Outside, tmp_path: Path
) -> None:
    if "ssh-keygen" in page.read_text(encoding="utf-8") and shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen")
    with Sandbox.open(tmp_path / "sandbox", outside) as sandbox:
        for name in starts_with(page):
            copy = shutil.copytree if (stock / name).is_dir() else shutil.copyfile
            copy(stock / name, sandbox.work / name)
        follow(page, sandbox)


def follow(page: Path, sandbox: Sandbox) -> None:
    out = ""
    for block in blocks(page):
        where = f"{label(page)}:{block.line}"
        if block.mark == "file":
            sandbox.write(block.about, block.text)
        elif block.mark == "prints":
            assert printed(sandbox.translate(block.text), out), f"{where}: {out}"
        elif runs(block):
            status, out = sandbox.run(block.text)
            assert status == int(block.about or 0), f"{where}: {out}"


@pytest.mark.parametrize("page", RUN_PAGES, ids=label)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    known = {"", "fails", "not run", "file", "prints"} | (
        {"setup", "tests"} if page.name == "README.md" else set()
    )
    for block in blocks(page):
        where = f"{label(page)}:{block.line}"
        assert block.mark in known, where
        assert block.mark != "not run" or (block.language == "sh" and block.about), where
        assert block.language in ("sh", "yaml", "toml", "text"), where


def test_the_readme_and_ci_agree() -> None:
    script = ROOT / ".ci" / "run"
    if not script.exists():
        pytest.skip("not a checkout")
    marked = {block.mark: block.text.strip() for block in blocks(ROOT / "README.md") if block.mark}
    assert set(marked) == {"setup", "tests"}
    text = script.read_text(encoding="utf-8")
    search = re.search(r"^command=\$\((awk .*)\)$", text, re.MULTILINE)
    assert search is not None
    found = subprocess.run(
        ["bash", "-c", search[1]], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert found == marked["tests"]
    # What the setup command does last is what CI does with the wheel, in an empty environment.
    venv, pip, demo = marked["setup"].split(" && ")
    assert venv == marked["tests"].split(" && ")[0] == "python3 -m venv .venv"
    assert pip == ".venv/bin/python -m pip install '.[demo]'"
    assert demo == ".venv/bin/envforge demo"
    assert 'python3 -m venv "$scratch/venv"' in text
    assert "venv/bin/envforge demo" in text
    assert ".venv/bin/python -m pytest -n auto -m 'not lab'" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")


# -- what is named -------------------------------------------------------------------------------------


def prose(page: Path) -> str:
    """The text of a page without its blocks and code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda found: found[0].replace("](", "] ("), text)


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {ANCHOR.sub("", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=label)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{label(page)}: {target}"
        assert not anchor or anchor in anchors(file), f"{label(page)}: {target}"


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    reached, queue = {index}, [index]
    while queue:
        page = queue.pop()
        for target in re.findall(r"\]\(([^)#]+\.md)[^)]*\)", prose(page)):
            file = (page.parent / target).resolve()
            if "://" not in target and file not in reached:
                reached.add(file)
                queue.append(file)
    assert {page for page in PAGES if page.is_relative_to(ROOT / "docs")} <= reached


def test_the_reference_of_commands_is_the_code(capfd: pytest.CaptureFixture[str]) -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "make_reference.py"], cwd=ROOT, check=False)
    written = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    assert done.returncode == 0
    assert capfd.readouterr().out == written, "python docs/make_reference.py > docs/reference/commands.md"


def all_commands(command: click.Command, words: str) -> Iterator[tuple[str, click.Command]]:
    yield words, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from all_commands(inner, f"{words} {name}")


def test_every_command_and_option_is_documented() -> None:
    text = (REFERENCE / "commands.md").read_text(encoding="utf-8")
    sections = {part.split("\n", 1)[0]: part for part in text.split("\n## ")[1:]}
    found = dict(all_commands(cli, "envforge"))
    del found["envforge"]
    assert set(found) == set(sections)
    for words, command in found.items():
        assert command.help, words
        for option in (one for one in command.params if isinstance(one, click.Option)):
            assert option.help, f"{words} {option.name}"
            for spelling in option.opts:
                assert re.search(rf"`{spelling}[ `]", sections[words]), f"{words} {spelling}"


def test_commands_and_options_in_the_pages_exist() -> None:
    known: dict[str, set[str]] = {
        words: {spelling for one in command.params for spelling in one.opts}
        for words, command in all_commands(cli, "envforge")
    }
    lines = [
        re.split(r" # |\$\(| -- ", line)[0]
        for page in PAGES
        for block in blocks(page)
        if block.language == "sh"
        for line in block.text.replace("\\\n", " ").splitlines()
        if "ln -s" not in line
    ]
    for line in lines:
        for words in re.findall(r"(?:^|&& |/bin/)(envforge .*?)(?= && |$)", line):
            names = words.split()
            command = next(" ".join(names[:count]) for count in (3, 2) if " ".join(names[:count]) in known)
            assert {name for name in names if re.match(r"--?[a-zA-Z]", name)} <= known[command], line


def table(page: Path) -> list[list[str]]:
    """The cells of every table of a page but its headings."""
    rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_every_exit_code_is_documented() -> None:
    classes = [one for one in vars(errors).values() if isinstance(one, type)]
    codes = {one.exit_code for one in classes if issubclass(one, errors.EnvforgeError)}
    assert {int(row[0].strip("`")) for row in table(REFERENCE / "exit-codes.md")} == codes | {
        0,
        126,
        127,
        130,
    }


def test_every_environment_variable_is_documented() -> None:
    read = r'environ(?:ment)?(?:\.get\(|\[)"([A-Z]\w+)"|"(\w+)" in os\.environ|"((?:ENVFORGE|XDG)_\w+)"'
    found = {
        name
        for path in PACKAGE.rglob("*.py")
        for match in re.findall(read, path.read_text(encoding="utf-8"))
        for name in match
        if name
    } | {*process._KEPT, *process._NETWORK, *signing._AGENT, *platforms.OVERRIDES}
    for program in ("templates/bundle.sh", "node/using/activation/container"):
        found |= set(re.findall(r"\$\{(ENVFORGE_\w+):?-", (PACKAGE / program).read_text("utf-8")))
    rows = table(REFERENCE / "environment-variables.md")
    documented = {name for row in rows for name in re.findall(r"`(\w+)`", row[0])}
    assert documented == found


def test_every_setting_is_documented() -> None:
    kinds = {"path": "a path", "paths": "a list of paths", "text": "a text", "texts": "a list of texts"}
    kinds |= {"channels": "a list of channels"}
    kinds |= {"flag": "true or false", "table": "a table"}
    rows = [
        [f"`{key}`", kinds[known.kind], "yes" if known.by_project else "no", known.help]
        for key, known in settings.KEYS.items()
    ]
    assert [row for row in table(REFERENCE / "settings.md") if row[0].startswith("`")] == rows


def test_what_the_lockfile_holds_of_envforge_is_documented() -> None:
    found = set()
    for path in (
        *(PACKAGE / "lock").glob("*.py"),
        PACKAGE / "formats" / "conda_lock.py",
        PACKAGE / "model" / "lockfile.py",
        PACKAGE / "model" / "runtime.py",
        PACKAGE / "model" / "built.py",
        PACKAGE / "model" / "python.py",
    ):
        found |= set(re.findall(r'["`](envforge\.[a-z-]+)', path.read_text(encoding="utf-8")))
    documented = {
        row[0].strip("`").replace(".PLATFORM", "").replace(".NAME", "")
        for row in table(REFERENCE / "lockfile.md")
    }
    assert {name for name in documented if name.startswith("envforge.")} == found - {"envforge.lock"}


def test_what_a_receipt_may_say_is_documented() -> None:
    rows = table(REFERENCE / "prefix.md")
    documented = {name for row in rows for name in re.findall(r"`([\w-]+)`", " ".join(row))}
    assert set(re.findall(r"``([a-z-]+)``", str(FileRecord.__doc__))) <= documented
    assert {field.name for one in (FileRecord, Receipt) for field in dataclasses.fields(one)} <= documented


def test_every_check_before_an_installation_is_documented() -> None:
    rows = table(REFERENCE / "install-checks.md")
    assert [row[0].strip("`") for row in rows if len(row) == 3] == list(preflight.CHECKS)


# -- errors --------------------------------------------------------------------------------------------


def texts(node: ast.expr) -> list[str]:
    """What an expression may say, with a NUL for what is filled in."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values)]
    if isinstance(node, ast.IfExp):
        return texts(node.body) + texts(node.orelse)
    if isinstance(node, ast.BinOp):
        return ["".join(pair) for pair in product(texts(node.left), texts(node.right))]
    inner = (one for one in ast.walk(node) if isinstance(one, ast.JoinedStr))  # such as f"…".splitlines()[0]
    return next((texts(one) for one in inner), ["\0"])


def raised() -> Iterator[tuple[int, str]]:
    """Every error that the package can raise: its status and its first line."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            if isinstance(node.func, ast.Attribute) and node.func.attr in ("error", "_error"):
                kind: object = errors.InputError  # of those who read files: they know the place
            else:
                kind = getattr(errors, node.func.id, None) if isinstance(node.func, ast.Name) else None
            if isinstance(kind, type) and issubclass(kind, errors.EnvforgeError):
                yield from ((kind.exit_code, text) for one in node.args for text in texts(one))

    program = (PACKAGE / "templates" / "bundle.sh").read_text(encoding="utf-8")
    for status, text in re.findall(r'\bfail (\d) "(.*?)" "', program):
        yield int(status), re.sub(r"\$\{.*?\}|\$\w+", "\0", text)


def said() -> str:
    """Every text of the package: a few errors are put together by those who raise several like them."""
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py"))
    nodes = (node for tree in trees for node in ast.walk(tree))
    return "\n".join(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))


def test_the_errors_of_the_table_are_those_of_the_code() -> None:
    known, everything = list(raised()), said()
    rows = table(ROOT / "docs" / "how-to" / "when-it-fails.md")
    assert len(rows) > 20
    for row in rows:
        parts = [part.strip() for part in re.split(r"\b[A-Z]+\b", row[0].strip("`"))]
        pattern = ".*".join(re.escape(part) for part in parts)
        codes = {code for code, text in known if re.search(pattern, text, re.DOTALL)}
        assert int(row[1]) in codes or (not codes and all(part in everything for part in parts)), row[0]


def test_blocks_and_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# T\n\n<!-- fails: 2 -->\n```sh\nfalse\n```\n\n<!-- setup -->\n\ntext\n\n```yaml\na: b\n```\n"
    )
    assert list(blocks(page)) == [
        Block("sh", "false\n", 4, "fails", "2"),
        Block("yaml", "a: b\n", 12),
    ]
