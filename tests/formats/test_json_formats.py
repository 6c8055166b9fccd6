"""The three JSON files: what they share is tested over all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from envforge import __version__
from envforge.formats import conda_lock, lock_json, manifest_json, receipt_json
from envforge.model.lockfile import LockedChannel
from envforge.model.receipt import FileRecord

from .support import A, B, conda_row, golden, lockfile, manifest, receipt, refused

LOCK = lock_json.write(lockfile(), source_sha256=A)
MANIFEST = manifest_json.write(manifest)
RECEIPT = receipt_json.write(receipt)
READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "lock": (lock_json.read, LOCK),
    "manifest": (manifest_json.read, MANIFEST),
    "receipt": (receipt_json.read, RECEIPT),
}
kinds = pytest.mark.parametrize("kind", READERS)


def refuse(kind: str, text: str) -> tuple[str, str | None, str | None]:
    return refused(lambda: READERS[kind][0](text))


def changed(kind: str, *path: Any) -> str:
    *outer, key, value = path
    document = part = json.loads(READERS[kind][1])
    for step in outer:
        part = part[step]
    if value is ...:
        del part[key]
    else:
        part[key] = value
    return json.dumps(document)


def test_round_trips() -> None:
    assert lock_json.read(LOCK) == (lockfile(), A)
    assert manifest_json.read(MANIFEST) == manifest
    assert receipt_json.read(RECEIPT) == receipt
    everything = conda_lock.read(golden("everything"), source="x")
    assert lock_json.read(lock_json.write(everything, source_sha256=B)) == (everything, B)


def test_a_lock_is_one_row_a_line() -> None:
    one = lock_json.write(lockfile(conda_row()), source_sha256=A)
    assert one == (
        '{\n"envforge_lock":1,\n"needs":"0.1.0",\n'
        f'"source_sha256":"{A}",\n"platforms":["linux-64"],\n"sources":["environment.yml"],\n'
        f'"content_hash":{{"linux-64":"{B}"}},\n'
        '"custom":{"envforge.format":"1","envforge.name":"demo"},\n'
        '"channels":[\n{"url":"https://conda.anaconda.org/conda-forge","used_env_vars":[]}\n],\n'
        '"packages":[\n{"name":"zlib","version":"1.3","manager":"conda","platform":"linux-64",'
        '"dependencies":{"__glibc":">=2.17,<3.0.a0","libgcc":">=13"},'
        '"url":"https://conda.anaconda.org/conda-forge/linux-64/zlib-1.3-h1_0.conda",'
        f'"hash":{{"md5":"{"c" * 32}","sha256":"{A}"}},"category":"main","optional":false}}\n]\n}}\n'
    )


def test_a_manifest_is_one_file_a_line() -> None:
    assert (
        '{\n"envforge_manifest":1,\n"needs":"0.1.0",\n"locks":["demo"],\n'
        '"channels":[\n{"name":"conda-forge","url":"https://conda.anaconda.org/conda-forge"}\n],\n'
        '"files":[\n'
        f'{{"path":"conda/conda-forge/linux-64/a-1-0.conda","sha256":"{A}","size":10,'
        '"url":"https://conda.anaconda.org/conda-forge/linux-64/a-1-0.conda"},\n'
        f'{{"path":"locks/demo.json","sha256":"{B}","size":0}}\n]\n}}\n'
    ) == MANIFEST


def test_a_receipt_is_one_file_a_line_with_octal_modes() -> None:
    assert RECEIPT.endswith(
        '"files":[\n'
        '{"path":"bin/python","kind":"link","target":"python3.12","owner":"conda:python","how":"packaged"},\n'
        '{"path":"lib","kind":"directory","mode":"0755","owner":"envforge","how":"directory"},\n'
        f'{{"path":"lib/caf\\udce9","kind":"file","mode":"0644","size":3,"sha256":"{A}",'
        '"owner":"conda:python","how":"packaged"}\n]\n}\n'
    )
    assert RECEIPT.isascii()


def test_order_does_not_matter() -> None:
    backwards = replace(receipt, files=receipt.files[::-1], tools=dict(reversed(list(receipt.tools.items()))))
    assert receipt_json.write(backwards) == RECEIPT
    assert manifest_json.write(replace(manifest, files=manifest.files[::-1])) == MANIFEST
    lock = replace(
        lockfile(*lockfile().packages[::-1]), custom=dict(reversed(list(lockfile().custom.items())))
    )
    assert lock_json.write(lock, source_sha256=A) == LOCK


def test_what_is_empty_is_written_and_read() -> None:
    nothing = replace(manifest, locks=(), channels=(), files=())
    assert manifest_json.read(manifest_json.write(nothing)) == nothing


@kinds
def test_a_newer_version_is_refused_by_name(kind: str) -> None:
    newest = receipt_json.VERSION if kind == "receipt" else 1
    document = {f"envforge_{kind}": newest + 1, "needs": "0.9.0", "anything": [1]}
    what = f"the {kind} has format version {newest + 1}, and envforge {__version__} reads up to {newest}"
    assert refuse(kind, json.dumps(document)) == (what, f"envforge_{kind}", "use envforge 0.9.0 or newer")
    del document["needs"]
    assert refuse(kind, json.dumps(document))[2] == "use a newer envforge"


@kinds
@pytest.mark.parametrize(
    ("text", "what", "at"),
    [
        ("", "not valid JSON: Expecting value", "line 1"),
        ('{\n"a": 1,\n}', None, None),
        ("[]", "a list where a mapping is needed", None),
        ("null", "nothing where a mapping is needed", None),
        ('{"a": NaN}', "not valid JSON: NaN", None),
        ('{"a": -Infinity}', "not valid JSON: -Infinity", None),
        ('{"a": 1, "a": 1}', "the key 'a' is there twice", None),
        ("[" * 200_000, "not usable JSON: nested too deeply", None),
        ('{"a":' * 200_000, "not usable JSON: nested too deeply", None),
        ("\x00", "not valid JSON: Expecting value", "line 1"),
        ("\ufeff{}", None, None),
    ],
)
def test_what_is_no_such_json(kind: str, text: str, what: str | None, at: str | None) -> None:
    found = refuse(kind, text)
    assert found[2]
    if what is not None:
        assert found[:2] == (what, at)


@kinds
def test_another_document(kind: str) -> None:
    assert refuse(kind, "{}")[:2] == (f"not a {kind} of envforge: 'envforge_{kind}' is missing", None)
    for version in ("1", 0, True, 1.0, [1]):
        what, at, _ = refuse(kind, json.dumps({f"envforge_{kind}": version}))
        assert (what, at) == ("no version of a format", f"envforge_{kind}")


HUGE = 10**400


@pytest.mark.parametrize(
    ("kind", "path", "what", "at"),
    [
        ("lock", ("colour", 1), "unknown key 'colour'", "colour"),
        ("lock", ("packages", ...), "'packages' is missing", None),
        (
            "lock",
            ("source_sha256", "x"),
            "the text 'x' where a sha256 in lower-case hex is needed",
            "source_sha256",
        ),
        (
            "lock",
            ("packages", 1, "hash", "sha256", 3),
            "the number 3 where a text is needed",
            "packages[1].hash.sha256",
        ),
        ("lock", ("packages", 1, "source", {}), "unknown key 'source'", "packages[1].source"),
        (
            "lock",
            ("packages", 0, "optional", 1),
            "the number 1 where true or false is needed",
            "packages[0].optional",
        ),
        (
            "lock",
            ("packages", 0, "name", "../../x"),
            "the text '../../x' where the name of a package is needed",
            "packages[0].name",
        ),
        (
            "lock",
            ("packages", 0, conda_row().to_dict()),
            "zlib is locked twice for linux-64: 1.3 and 1.3",
            "package",
        ),
        ("lock", ("custom", {"a": "\ud800"}), "the text '\\ud800' where a text is needed", "custom.a"),
        ("lock", ("platforms", ["../x"]), "the text '../x' where a platform is needed", "platforms[0]"),
        (
            "manifest",
            ("files", 0, "path", "../x"),
            "the path '../x' does not stay inside its directory",
            "files[0].path",
        ),
        (
            "manifest",
            ("files", 0, "path", "/etc/passwd"),
            "the path '/etc/passwd' does not stay inside its directory",
            "files[0].path",
        ),
        ("manifest", ("files", 0, "path", 1), "the number 1 where a text is needed", "files[0].path"),
        (
            "manifest",
            ("files", 0, "path", "locks/demo.json"),
            "the path 'locks/demo.json' is there twice",
            "files[1]",
        ),
        (
            "manifest",
            ("files", 0, "size", -1),
            "the number -1 where a whole number is needed",
            "files[0].size",
        ),
        ("manifest", ("files", 0, "size", True), "true where a whole number is needed", "files[0].size"),
        (
            "manifest",
            ("files", 0, "size", 1.5),
            "the number 1.5 where a whole number is needed",
            "files[0].size",
        ),
        (
            "manifest",
            ("files", 0, "size", 1 << 63),
            "a number that is too large where a whole number is needed",
            "files[0].size",
        ),
        (
            "manifest",
            ("files", 0, "size", HUGE),
            "a number that is too large where a whole number is needed",
            "files[0].size",
        ),
        ("manifest", ("files", 0, "size", ...), "'size' is missing", "files[0]"),
        ("manifest", ("files", 1, []), "a list where a mapping is needed", "files[1]"),
        ("manifest", ("files", {}), "a mapping where a list is needed", "files"),
        ("manifest", ("locks", ["../x"]), "the text '../x' where a name is needed", "locks[0]"),
        ("manifest", ("locks", [".."]), "the text '..' where a name is needed", "locks[0]"),
        (
            "manifest",
            ("channels", 0, "name", "a/b"),
            "the text 'a/b' where a name is needed",
            "channels[0].name",
        ),
        (
            "manifest",
            ("channels", 0, "name", ".."),
            "the text '..' where a name is needed",
            "channels[0].name",
        ),
        (
            "receipt",
            ("files", 2, "path", "a/../../x"),
            "the path 'a/../../x' does not stay inside its directory",
            "files[2].path",
        ),
        (
            "receipt",
            ("files", 2, "path", "a\0b"),
            "the path 'a\\x00b' does not stay inside its directory",
            "files[2].path",
        ),
        ("receipt", ("files", 2, "path", "lib"), "the path 'lib' is there twice", "files[2]"),
        (
            "receipt",
            ("files", 2, "kind", "door"),
            "'door' is no kind of file; one of file, link, directory, special",
            "files[2].kind",
        ),
        (
            "receipt",
            ("files", 2, "mode", "644"),
            "the text '644' where a mode such as 0755 is needed",
            "files[2].mode",
        ),
        ("receipt", ("files", 2, "mode", 420), "the number 420 where a text is needed", "files[2].mode"),
        (
            "receipt",
            ("files", 2, "sha256", "A" * 64),
            f"the text '{'A' * 64}' where a sha256 in lower-case hex is needed",
            "files[2].sha256",
        ),
        ("receipt", ("files", 0, "target", 1), "the number 1 where a text is needed", "files[0].target"),
        ("receipt", ("files", 0, "owner", ...), "'owner' is missing", "files[0]"),
        ("receipt", ("files", 0, "date", "x"), "unknown key 'date'", "files[0].date"),
        ("receipt", ("prefix", "env"), "the text 'env' where an absolute path is needed", "prefix"),
        ("receipt", ("platform", "x/y"), "the text 'x/y' where a platform is needed", "platform"),
        (
            "receipt",
            ("packages", 0, "manager", "npm"),
            "manager 'npm' is neither conda nor pip",
            "packages[0].manager",
        ),
        ("receipt", ("tools", {"uv": 1}), "the number 1 where a text of one line is needed", "tools.uv"),
        ("receipt", ("lock", None), "nothing where a sha256 in lower-case hex is needed", "lock"),
    ],
)
def test_what_is_refused(kind: str, path: tuple[Any, ...], what: str, at: str | None) -> None:
    found = refuse(kind, changed(kind, *path))
    assert found[:2] == (what, at)
    assert found[2]


def test_thousands_of_digits_take_no_time() -> None:
    text = MANIFEST.replace('"size":10', f'"size":{"9" * 1_000_000}')
    start = time.process_time()
    assert refuse("manifest", text)[1] == "files[0].size"
    assert time.process_time() - start < 2


def test_secrets_are_dropped_from_a_lock() -> None:
    secret = replace(lockfile(), channels=(LockedChannel(url="https://me:secret@h/t/secret/forge"),))
    found, _ = lock_json.read(lock_json.write(secret, source_sha256=A))
    assert found.channels[0].url == "https://h/forge"


def test_sixty_thousand_files_are_a_line_each() -> None:
    files = tuple(
        FileRecord(
            path=f"lib/python3.12/site-packages/p/m{i:05}.py", kind="file", mode=0o644, size=i, sha256=A
        )
        for i in range(60_000)
    )
    whole = replace(receipt, files=files)
    text = receipt_json.write(whole)
    assert receipt_json.read(text) == whole
    assert text.count("\n") == 60_000 + 19
