"""``Pipfile``, with plette, pipenv's own reader, as the peer."""

from __future__ import annotations

import io

import pytest
from plette import Pipfile

from envforge.formats.specification import read_specification
from envforge.model.spec import EnvironmentSpec

from .support import refused

TEXT = """\
[[source]]
url = "https://${HOST}/simple"
verify_ssl = true
name = "mine"
[[source]]
url = "https://h/cu"
name = "cuda"
verify_ssl = false
[packages]
requests = {version = ">=2", extras = ["socks"]}
django = "*"
waitress = {version = "3.*", sys_platform = "== 'win32'", markers = "python_version < '4'"}
torch = {version = "*", index = "cuda"}
mine = {path = "./mine", editable = true, extras = ["x"]}
other = {git = "https://h/other.git", ref = "v1", subdirectory = "py"}
file-of = {file = "https://h/file_of-1-py3-none-any.whl"}
[dev-packages]
pytest = "~=8.0"
[docs]
sphinx = "==8.*"
[requires]
python_version = "3.11"
[pipenv]
allow_prereleases = true
[scripts]
run = "python x.py"
"""


def read(text: str, notes: list[str] | None = None) -> EnvironmentSpec:
    heard = notes if notes is not None else []
    return read_specification(
        ["Pipfile"], read={"Pipfile": text}.__getitem__, note=heard.append, variables={"HOST": "a"}
    )


def test_a_whole_file() -> None:
    notes: list[str] = []
    spec = read(TEXT, notes)
    assert [(line.text, line.group) for line in spec.pip] == [
        ("requests[socks]>=2", "main"),
        ("django", "main"),
        ("waitress==3.* ; (python_version < '4') and (sys_platform == 'win32')", "main"),
        ("torch", "main"),
        ("./mine[x]", "main"),
        ("other @ git+https://h/other.git@v1#subdirectory=py", "main"),
        ("file-of @ https://h/file_of-1-py3-none-any.whl", "main"),
        ("pytest~=8.0", "dev"),
        ("sphinx==8.*", "docs"),
    ]
    assert spec.pip[1].at == "Pipfile:11"
    assert spec.indexes == ("https://a/simple",)
    assert spec.index_of == (("torch", "https://h/cu"),)
    assert (spec.python, spec.prerelease) == ("3.11", True)
    assert [note.partition(" ")[0] for note in notes] == ["Pipfile:8:", "Pipfile:14:"]


def test_plette_reads_the_same() -> None:
    theirs = Pipfile.load(io.StringIO(TEXT))
    spec = read(TEXT)
    for section, group in (("packages", "main"), ("dev-packages", "dev"), ("docs", "docs")):
        ours = [line.text for line in spec.pip if line.group == group]
        assert len(ours) == len(theirs._data[section])
    assert theirs.requires.python_version == spec.python


@pytest.mark.parametrize(
    ("text", "what", "line"),
    [
        ("[packages]\n", "there are no packages", 0),
        ("[packages]\na = {vers = '1'}\n", "unknown key 'vers' in packages.a", 2),
        ("[packages]\na = 1\n", "packages.a.version: the number 1 where a text is needed", 2),
        ("[packages]\na = '^1'\n", "'^1' is no version of a", 2),
        ("[packages]\na = {index = 'x'}\n", "there is no source 'x'", 2),
        ("[[source]]\nname = 'x'\n[packages]\na='*'\n", "a source without a URL", 1),
        ("[packages]\na='*'\n[requires]\npython_version = 'x'\n", "'x' is no version of Python", 4),
    ],
)
def test_what_is_refused(text: str, what: str, line: int) -> None:
    said, at, do = refused(lambda: read(text))
    assert at == (f"Pipfile:{line}" if line else "Pipfile")
    assert said.replace("packages.a: ", "packages.a.version: ") == what
    assert do
