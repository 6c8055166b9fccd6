"""Properties: every noun survives its file; whatever a file holds ends in a value or an InputError."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import tomli
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from envforge.errors import InputError
from envforge.formats import (
    conda_lock,
    dsse_json,
    lock_json,
    manifest_json,
    receipt_json,
    specification,
    trusted_keys,
)
from envforge.model.lockfile import Lockfile
from envforge.model.manifest import Manifest
from envforge.model.receipt import Receipt
from envforge.model.signature import Envelope, TrustedKey

from .support import A, golden, lockfile, lockfiles, manifest, manifests, receipt, receipts

quick = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

SPEC = """\
name: x
channels: [conda-forge]
dependencies:
  - python=3.12  # [linux]
  - sel(osx): clang
  - pip:
    - einops>=0.8
    - --extra-index-url https://h/simple
"""


KEY = " ".join(TrustedKey.of_ed25519("", bytes(32)).line().split()[2:])
envelope = Envelope(payload=b"{}", payload_type="a/b", signatures=(("SHA256:x", bytes(64)),))


def _environment(text: str) -> object:
    return specification.read(text, source="x.yml")


def _conda_lock(text: str) -> object:
    return conda_lock.read(text, source="x.yml")


def _specification(name: str) -> Callable[[str], object]:
    return lambda text: specification.read(text, source=name)


PYPROJECT = """\
[project]
name = "x"
requires-python = ">=3.11,<3.13"
dependencies = ["numpy>=2 ; sys_platform == 'linux'", "x[a]"]
[project.optional-dependencies]
a = ["six"]
[dependency-groups]
test = ["pytest", {include-group = "lint"}]
lint = ["ruff"]
[tool.conda-lock]
channels = ["conda-forge"]
dependencies = {python = "3.12.*", gcc = {version = ">=12", build = "h*"}}
[tool.uv.sources]
numpy = {index = "i"}
[[tool.uv.index]]
name = "i"
url = "https://h/simple"
explicit = true
"""
PIXI = """\
[workspace]
channels = ["conda-forge", {channel = "nvidia", priority = 1}]
platforms = ["linux-64", {platform = "osx-arm64", macos = "13.0"}]
[dependencies]
python = ">=3.11,<3.13"
gcc = {version = "*", build = "h*", build-number = ">=1"}
[target.linux.pypi-dependencies]
torch = {version = ">=2", extras = ["opt"], index = "https://h/simple"}
a = {git = "https://h/a.git", tag = "v1", subdirectory = "b"}
[environments]
default = ["cuda"]
[feature.cuda.system-requirements]
cuda = "12"
[feature.cuda.pypi-options]
find-links = [{path = "./w"}]
"""
PIPFILE = """\
[[source]]
url = "https://h/simple"
name = "h"
[packages]
a = "*"
b = {version = "==1.*", index = "h", sys_platform = "== 'linux'"}
[dev-packages]
c = {path = "./c", editable = true}
[requires]
python_version = "3.11"
"""
REQUIREMENTS = f"""\
# comment
numpy>=2 \\
  --hash=sha256:{A}
-i https://h/simple --pre
-e git+https://h/x@main#egg=x[y]&subdirectory=z
./dir[a,b]
https://h/six-1.0-py3-none-any.whl ; python_version < "4"
"""

READERS: dict[str, tuple[Callable[[str], object], str]] = {
    "environment": (_environment, SPEC),
    "pyproject": (_specification("pyproject.toml"), PYPROJECT),
    "pixi": (_specification("pixi.toml"), PIXI),
    "pipfile": (_specification("Pipfile"), PIPFILE),
    "requirements": (_specification("requirements.txt"), REQUIREMENTS),
    "anything": (_specification("something"), PIXI),
    "conda_lock": (_conda_lock, golden("everything")[:3500]),
    "lock": (lock_json.read, lock_json.write(lockfile(), source_sha256=A)),
    "manifest": (manifest_json.read, manifest_json.write(manifest)),
    "envelope": (dsse_json.read, dsse_json.write(envelope)),
    "keys": (trusted_keys.read, f'# x\nada namespaces="*",cert-authority {KEY}\n"b c" {KEY} remark\n'),
    "receipt": (receipt_json.read, receipt_json.write(receipt)),
}
readers = pytest.mark.parametrize("name", READERS)


def value_or_refusal(name: str, text: str) -> None:
    refusal = None
    try:
        READERS[name][0](text)
    except InputError as error:
        refusal = error
    if refusal is not None:
        assert refusal.what.isprintable()
        assert refusal.do
        assert refusal.do.isprintable()
        assert (refusal.at or "x").isprintable()


@quick
@given(lockfiles())
def test_lockfiles_survive_yaml(lock: Lockfile) -> None:
    lock.custom.pop("envforge.format", None)  # type: ignore[attr-defined]
    text = conda_lock.write(lock)
    assert conda_lock.read(text, source="x") == lock
    assert conda_lock.write(conda_lock.read(text, source="x")) == text


@quick
@given(lockfiles())
def test_lockfiles_survive_json(lock: Lockfile) -> None:
    assert lock_json.read(lock_json.write(lock, source_sha256=A)) == (lock, A)


@quick
@given(manifests)
def test_manifests_survive(noun: Manifest) -> None:
    assert manifest_json.read(manifest_json.write(noun)) == noun


@quick
@given(receipts)
def test_receipts_survive(noun: Receipt) -> None:
    assert receipt_json.read(receipt_json.write(noun)) == noun


@readers
@quick
@given(text=st.text())
@example(text="\ud800")
@example(text="&a [*a]")
@example(text="? {a: b}\n: c")
@example(text="\x85")
@example(text="%TAG ! x\n---\n!y z")
@example(text="{" * 3000)
@example(text="? " * 3000)
@example(text='dependencies: ["a\\x07": 1]')
@example(text='dependencies: "\\x07"')
@example(text="!<a%07> b")
@example(text='version: 1\npackage: []\nmetadata: {inputs_metadata: {"\\x1f": null}}')
@example(text="'" * 3)
def test_any_text(name: str, text: str) -> None:
    value_or_refusal(name, text)


@readers
@quick
@given(data=st.binary())
def test_any_bytes(name: str, data: bytes) -> None:
    value_or_refusal(name, data.decode("latin-1"))


PIECES = [
    "\t",
    "\n",
    "- ",
    ": ",
    "[",
    "]",
    "{",
    "}",
    "*a",
    "&a ",
    "!!",
    "#",
    "'",
    '"',
    "null",
    "1.5",
    "\0",
    "é",
    "\\",
    "|",
    ">",
    "<<",
    "? ",
    "9" * 30,
    "true",
    ",",
]


@readers
@quick
@given(seed=st.integers(0, 1 << 32))
def test_any_damage(name: str, seed: int) -> None:
    chance = random.Random(seed)
    text = READERS[name][1]
    for _ in range(chance.randint(1, 3)):
        start = chance.randrange(len(text))
        end = start + chance.choice([0, 0, 1, 5, 40])
        text = text[:start] + chance.choice(["", *PIECES, text[end : end + 30]]) + text[end:]
    value_or_refusal(name, text)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


TOML = ("pyproject", "pixi", "pipfile")


@pytest.mark.parametrize(
    "name", [name for name in READERS if name not in ("keys", "requirements", "anything")]
)
@quick
@example(value={"\x1f": False}, seed=367)  # a name of a group that no terminal should see
@given(value=json_values, seed=st.integers(0, 1 << 32))
def test_any_value_in_any_place(name: str, value: object, seed: int) -> None:
    import json

    import yaml

    chance = random.Random(seed)
    document: Any
    if name in TOML:
        document = tomli.loads(READERS[name][1])
    else:
        document = yaml.safe_load(golden("everything") if name == "conda_lock" else READERS[name][1])
    part = document
    while True:
        key = chance.choice(list(part) if isinstance(part, dict) else range(len(part)))
        if not isinstance(part[key], (dict, list)) or not part[key] or chance.random() < 0.2:
            part[key] = value
            break
        part = part[key]
    value_or_refusal(name, as_toml(document) if name in TOML else json.dumps(document))


def as_toml(document: dict[str, object]) -> str:
    """TOML of what JSON can hold; null, which TOML lacks, as an empty list."""

    def value(one: object) -> str:
        if isinstance(one, dict):
            return "{" + ", ".join(f"{key(k)} = {value(v)}" for k, v in one.items()) + "}"
        if isinstance(one, list):
            return "[" + ", ".join(map(value, one)) + "]"
        if isinstance(one, float):
            return {"inf": "inf", "-inf": "-inf", "nan": "nan"}.get(str(one), repr(one))
        if isinstance(one, bool):
            return str(one).lower()
        return "[]" if one is None else key(one) if isinstance(one, str) else str(one)

    def key(text: str) -> str:
        return (
            '"'
            + "".join(
                c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}"
                for c in text
                if not 0xD800 <= ord(c) < 0xE000
            )
            + '"'
        )

    return "".join(f"{key(k)} = {value(v)}\n" for k, v in document.items())
