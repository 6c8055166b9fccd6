"""Files of another kind, damaged or hostile: three lines, little memory, and nothing written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from envforge.errors import InputError
from envforge.formats.recognise import KINDS
from envforge.importing import read_lock
from envforge.importing.reading import _READERS
from tests.foreign.support import GOLDEN, call, read

SHA = "a" * 64
UV = """\
version = 1
requires-python = ">=3.10"
[[package]]
name = "root"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "one" }]
[[package]]
name = "one"
version = "1.0"
source = { registry = "https://pypi.org/simple" }
wheels = [{ url = "https://h/one-1.0-py3-none-any.whl", hash = "sha256:%s" }]
"""
PYLOCK = """\
lock-version = "1.0"
created-by = "x"
[[packages]]
name = "one"
version = "1.0"
[[packages.wheels]]
url = "https://%sh/one-1.0-py3-none-any.whl"
hashes = { sha256 = "%s" }
"""
PIXI = """\
version: 6
environments:
  default:
    channels: [{url: https://conda.anaconda.org/conda-forge/}]
    packages:
      linux-64:
      - conda: https://conda.anaconda.org/conda-forge/linux-64/one-1.0-0.conda
packages:
- conda: https://conda.anaconda.org/conda-forge/linux-64/one-1.0-0.conda
  sha256: %s
  md5: %s
"""
BOMB = "version: 6\nenvironments: {}\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)

BAD: dict[str, tuple[str, str]] = {
    "empty": ("", "empty"),
    "blank": ("\n\n  \n", "empty"),
    "prose": ("Dear reader,\nthis is no lockfile at all.\n", "not a file that can be imported"),
    "zero bytes": ("version: 6\0\0", "not a text file"),
    "a specification": ("[project]\nname = 'x'\n", "specification"),
    "Cargo.lock": (
        'version = 4\n[[package]]\nname = "x"\nversion = "1"\nsource = "registry+https://g"\n',
        "Rust",
    ),
    "package-lock.json": ('{"name": "x", "lockfileVersion": 3}', "JavaScript"),
    "pdm.lock": ('[metadata]\nlock_version = "4.5"\n[[package]]\nname = "x"\n', "pdm.lock"),
    "key twice, YAML": (PIXI % (SHA, "b" * 32) + "version: 6\n", "there twice"),
    "key twice, TOML": (UV % SHA + 'name = "two"\n', "not valid TOML"),
    "key twice, JSON": ('{"_meta": {"pipfile-spec": 6, "pipfile-spec": 6}, "default": {}}', "there twice"),
    "alias bomb": (BOMB, "aliases"),
    "date for a text": ((UV % SHA).replace('"1.0"', "2020-01-01"), "where a text is needed"),
    "date for a text, pylock": (
        (PYLOCK % ("", SHA)).replace('"1.0"\n[[', "2020-01-01\n[["),
        "Unexpected type",
    ),
    "short hash, uv": (UV % "abc", "sha256:HEX"),
    "short hash, pixi": (PIXI % ("abc", "b" * 32), "sha256"),
    "md5 for sha256, pixi": (PIXI % ("b" * 32, "b" * 32), "sha256"),
    "short hash, pylock": (PYLOCK % ("", "abc"), "sha256"),
    "short hash, requirements": ("one==1.0 --hash=sha256:abc\n", "no hash"),
    "short hash, explicit": (
        "@EXPLICIT\nhttps://conda.anaconda.org/x/linux-64/one-1.0-0.conda#abc\n",
        "no md5 and no sha256",
    ),
    "short hash, Pipfile": (
        '{"_meta": {"pipfile-spec": 6}, "default": {"a": {"version": "==1", "hashes": ["sha256:ab"]}}}',
        "where a hash is needed",
    ),
    "not pinned": ("one>=1.0 --hash=sha256:" + SHA, "not pinned"),
    "not pinned, conda": ("dependencies:\n- python=3.12\n", "not pinned to one build"),
    "same name twice, requirements": (
        "".join(f"one @ https://h/one-{n}-py3-none-any.whl --hash=sha256:{SHA}\n" for n in (1, 2)),
        "there twice",
    ),
    "two platforms in one explicit file": (
        "@EXPLICIT\nhttps://h/c/linux-64/one-1.0-0.conda\nhttps://h/c/osx-64/two-1.0-0.conda\n",
        "in one file",
    ),
    "two files of one name, pylock": (
        (PYLOCK % ("", SHA)).replace("url =", 'name = "one-1.0-py3-none-any.whl"\nurl =')
        + '[[packages.wheels]]\nname = "one-1.0-py3-none-any.whl"\n'
        'url = "https://i/one-1.0-py3-none-any.whl"\nhashes = { sha256 = "' + "b" * 64 + '" }\n',
        "two files are called one-1.0-py3-none-any.whl",
    ),
    "paths of somebody's machine, pylock": (
        (PYLOCK % ("", SHA)).replace('url = "https://h/', 'path = "../'),
        "it comes from a directory: one",
    ),
    "a path of somebody's machine, Pipfile": (
        '{"_meta": {"pipfile-spec": 6}, "default": {"a": {"file": "../a-1.tar.gz", "hashes": []}}}',
        "it comes from a directory: a",
    ),
    "editable, from a repository": ("-e git+https://h/x.git@main#egg=mine\n", "from a repository: mine"),
    "a lock of nothing": ('lock-version = "1.0"\ncreated-by = "x"\npackages = []\n', "it locks no packages"),
    "half a list of conda's": ("python=3.12.1=h1_0\nzlib\n", "no NAME=VERSION=BUILD"),
    "a list of conda's without its channel": ("# platform: linux-64\nzlib=1.3=0\n", "which channel"),
    "a poetry.lock without its end": (
        '[[package]]\nname = "a"\nversion = "1"\noptional = false\npython-versions = "*"\nfiles = []\n',
        "poetry lock",
    ),
    "a wheel called otherwise than its row": (
        (UV % SHA).replace("one-1.0-py3", "other-1.0-py3"),
        "the row is of one 1.0, and its URL of other-1.0-py3-none-any.whl",
    ),
    "an index by a variable": (
        '{"_meta": {"pipfile-spec": 6, "sources": [{"url": "https://${NO_SUCH}@h/simple"}]}, "default": '
        '{"a": {"version": "==1", "hashes": ["sha256:' + SHA + '"]}}}',
        "the variable NO_SUCH is not set",
    ),
    "an option that needs a file": ("-r other.txt\n", "cannot be imported"),
    "a marker that is none": ("one==1.0 ; sys_platform ~ 'x' --hash=sha256:" + SHA, "no requirement"),
    "a broken table": ("version = 1\n[[package]\n", "not valid TOML"),
    "deep JSON": ('{"_meta": {"pipfile-spec": 6}, "default": ' + "[" * 100_000, "deep"),
    "deep TOML": ("lock-version = '1.0'\ncreated-by = 'x'\npackages = " + "[" * 50_000, "deep"),
    "deep YAML": ("version: 6\nenvironments: " + "[" * 50_000, "deep"),
    "a name that leaves its place": (
        (PIXI % (SHA, "b" * 32)).replace("one-1.0-0.conda", "..%2f..%2fone-1.0-0.conda"),
        "cannot be a name",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_end_in_three_lines(name: str, tmp_path: Path) -> None:
    text, words = BAD[name]
    path, output = tmp_path / "some.lock", tmp_path / "conda-lock.yml"
    path.write_text(text)
    ended = call("import", path, "-o", output, "-p", "linux-64", "--python", "3.12", "--offline")
    ended.assert_error(2, words)
    assert not output.exists()


def test_a_directory_that_is_no_environment_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    call("import", tmp_path, "-o", tmp_path / "x-lock.yml").assert_error(2, "no conda-meta")
    call("import", tmp_path / "none", "-o", tmp_path / "x-lock.yml").assert_error(2, "no such file")


@pytest.mark.parametrize("head", [b"\x1f\x8b\x08rubbish", b"PK\x03\x04rubbish", b"BZhrubbish"])
def test_an_archive_that_is_none(head: bytes, tmp_path: Path) -> None:
    (tmp_path / "env.tar.gz").write_bytes(head * 20)
    ended = call("import", tmp_path / "env.tar.gz", "-o", tmp_path / "x-lock.yml")
    ended.assert_error(2, "archive")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(128, 256)) * 100)
    call("import", tmp_path / "x", "-o", tmp_path / "x-lock.yml").assert_error(2, "not a text file")


def test_nothing_is_written_over_without_being_told_to(tmp_path: Path) -> None:
    output = tmp_path / "conda-lock.yml"
    output.write_text("precious")
    call("import", GOLDEN / "pixi-7.lock", "-o", output).assert_error(2, "there is a file already", "--force")
    assert output.read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        (PYLOCK % ("user:geheim@", SHA), "geheim"),
        (
            (PIXI % (SHA, "b" * 32)).replace("https://conda.anaconda.org/", "https://me:geheim@h/t/tk-1/"),
            "geheim",
        ),
        ((PIXI % (SHA, "b" * 32)).replace("https://conda.anaconda.org/", "https://h/t/tk-geheim/"), "geheim"),
        ((UV % SHA).replace("https://", "https://me:geheim@"), "geheim"),
    ],
)
def test_credentials_in_urls_are_removed_and_said(text: str, secret: str, tmp_path: Path) -> None:
    path, output, spec = tmp_path / "x.lock", tmp_path / "conda-lock.yml", tmp_path / "environment.yml"
    path.write_text(text)
    options = ["-p", "linux-64", "--python", "3.12", "--offline", "--spec", spec]
    ended = call("import", path, "-o", output, *options)
    assert ended.status == 0, ended.err
    assert "credentials were removed" in ended.err
    for written in (output.read_text(), spec.read_text(), ended.out, ended.err):
        assert secret not in written
    assert len(read(output).packages) == 1


_MEASURED = """
import json, resource, subprocess, sys
before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
done = subprocess.run([sys.executable, "-m", "envforge", *sys.argv[1:]], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, done.stderr, used.ru_maxrss // 1024, used.ru_utime + used.ru_stime]))
"""


@pytest.mark.parametrize("kind", ["huge", "bomb", "deep", "zip of zeros"])
def test_a_hostile_file_takes_little_memory(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    if kind == "huge":
        with path.open("wb") as file:
            file.write(b"version: 6\n")
            file.truncate(500_000_000)
    elif kind == "zip of zeros":
        import zipfile

        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("conda-meta/a-1-0.json", b"0" * 120_000_000)
    else:
        path.write_text(BOMB if kind == "bomb" else "version: 6\nenvironments: " + "[" * 1_000_000)
    argv = [sys.executable, "-c", _MEASURED, "import", str(path), "-o", str(tmp_path / "x-lock.yml")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=tmp_path)
    status, err, megabytes, _ = json.loads(done.stdout)
    assert status == 2, err
    assert len(err.splitlines()) == 3
    assert megabytes < 200


@pytest.mark.parametrize(
    "words", ["export pixi", "share DIR --lockfile", "list", "git-driver text --json", "import"]
)
def test_no_command_reads_a_file_that_is_too_large(words: str, tmp_path: Path) -> None:
    path = tmp_path / "x-lock.yml"
    with path.open("wb") as file:
        file.truncate(500_000_000)
    ended = call(*words.replace("DIR", str(tmp_path / "new")).split(), path)
    ended.assert_error(2, "larger than 100 MB")


# -- whatever a file holds, reading it ends in a value or in an error that says where ------------------------

TEXTS = {
    "conda-list": "# platform: linux-64\nabsl=1.0=pypi_0\npython=3.12.1=h1_0_cpython\nzlib=1.3=0\n",
    "environment": (GOLDEN / "environment-conda-lock.yml").read_text(),
    "explicit": (GOLDEN / "explicit-conda-lock.txt").read_text(),
    "pipfile": (GOLDEN / "Pipfile-2026.10.3.lock").read_text()[:1500] + "}}",
    "pixi": (GOLDEN / "pixi-7.lock").read_text(),
    "poetry": (GOLDEN / "poetry-2.5.1.lock").read_text()[:3000],
    "pylock": PYLOCK % ("", SHA),
    "requirements": (GOLDEN / "requirements-uv-export.txt").read_text()[:1500],
    "uv": UV % SHA,
}
quick = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=set(Phase) - {Phase.explain},
)


def value_or_refusal(read_it: Callable[[], object]) -> None:
    refusal = None
    try:
        read_it()
    except InputError as error:
        refusal = error
    if refusal is not None:
        assert refusal.what.isprintable()
        assert refusal.do
        assert (refusal.at or "x").isprintable()


@pytest.mark.parametrize("kind", TEXTS)
@quick
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    text = TEXTS[kind]
    for _ in range(data.draw(st.integers(1, 3))):
        begin = data.draw(st.integers(0, len(text)))
        end = min(len(text), begin + data.draw(st.integers(0, 30)))
        put = data.draw(
            st.text(max_size=6) | st.sampled_from(('"', "[", "{", "\n", ": ", "1979-05-27", "null", "="))
        )
        text = text[:begin] + put + text[end:]
    value_or_refusal(lambda: _READERS[kind](text, source="x.lock"))
    value_or_refusal(lambda: read_lock(text, source="x.lock"))


def test_every_kind_is_tried() -> None:
    assert set(TEXTS) == set(_READERS) == set(KINDS) - {"conda-lock"}
