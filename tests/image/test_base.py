"""Bases: what is refused of them, and a registry that hands them out by digest."""

from __future__ import annotations

import base64
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from envforge.edges.registry_logins import registry_login
from tests.image.conftest import Command
from tests.image.world import (
    DEBIAN,
    MACHINE,
    OCI,
    Base,
    Image,
    Tree,
    blob,
    make_base,
    write_archive,
    write_base,
)
from tests.node.world import conda, library, mirror

ON_THE_WAY = "is no directory in the base"
NEEDS = "needs glibc 2.28, and the base has 2.17"
TAKEN = "the base has something at /opt/env already"


@pytest.mark.parametrize(
    ("trees", "said"),
    [
        ([{"opt/env/bin/x": b"1"}], TAKEN),
        ([{"opt/env": "elsewhere"}], TAKEN),
        ([{"opt": "srv"}], ON_THE_WAY),
        ([{"opt": b"a file"}], ON_THE_WAY),
        ([{"opt/env": None}], None),
        ([{"opt/env/x": b"1"}, {"opt/env/.wh.x": b""}], None),
        ([{"opt/env/x": b"1"}, {"opt/.wh.env": b""}], None),
        ([{"opt/env/x": b"1"}, {"opt/.wh..wh..opq": b""}], None),
        ([{"opt/env/x": b"1"}, {".wh.opt": b"", "opt": None}], None),
        ([{"opt/.wh.env": b""}, {"opt/env/x": b"1"}], TAKEN),
        ([{"opt/env/x": b"1"}, {"opt/env/.wh.x": b"", "opt/env/x": b"2"}], TAKEN),
        ([{"opt/environment": b"1", "option": b""}], None),
    ],
)
def test_the_prefix_must_be_free(
    envforge_here: Command, made: Path, tmp_path: Path, trees: Sequence[Tree], said: str | None
) -> None:
    write_base(tmp_path / "base.tar", *trees)
    status = 0 if said is None else 2
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar", status=status)
    if said is not None:
        done.assert_error(2, said)
        assert not (tmp_path / "env.tar").exists()


def test_a_base_for_another_machine_is_refused(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    write_base(tmp_path / "base.tar", architecture="s390x")
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar", status=2)
    done.assert_error(2, "the base is for linux/s390x")


@pytest.mark.parametrize(
    ("path", "release", "status", "said"),
    [
        (
            "lib/x86_64-linux-gnu/libc.so.6",
            b"GNU C Library (GLIBC 2.36-9) stable release version 2.36",
            0,
            "",
        ),
        ("lib64/libc-2.28.so", b"GNU C Library (GNU libc) stable release version 2.28.", 0, ""),
        ("usr/lib64/libc-2.17.so", b"GNU C Library (GNU libc) stable release version 2.17, by", 2, NEEDS),
        ("lib/ld-musl-x86_64.so.1", b"musl", 2, "the C library of the base is musl"),
        ("usr/bin/init", b"static", 0, "no glibc was found in the base"),
    ],
)
def test_the_c_library_of_the_base_must_do(
    envforge_here: Command, tmp_path: Path, path: str, release: bytes, status: int, said: str
) -> None:
    needy = conda(library("needy", {"x": b"1"}), dependencies={"__glibc": ">=2.28,<3.0.a0"})
    mirror(tmp_path / "mirror", needy)
    write_base(tmp_path / "base.tar", {path: b"\x7fELF\0" + release + b"\nmore\0"})
    done = envforge_here("image", "oci", "mirror", "--base", "base.tar", "-o", "env.tar", status=status)
    assert said in done.err
    assert "glibc" not in done.err or said


def test_of_several_images_none_is_guessed(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    one, two = make_base(({"a": b"1"},)), make_base(({"a": b"2"},))
    write_archive(tmp_path / "base.tar", one.blobs | two.blobs, [one.entry, two.entry])
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar", status=2)
    done.assert_error(2, f"the base has 2 images for linux/{MACHINE}")


def damaged(base: Base) -> Iterator[tuple[str, Base]]:
    """A base with one blob altered, for each of them."""
    for name, content in base.blobs.items():
        yield name, Base({**base.blobs, name: content[:-1] + bytes([content[-1] ^ 1])}, base.entry)
        yield name, Base({key: one for key, one in base.blobs.items() if key != name}, base.entry)


def test_no_blob_is_believed(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    for packed in (True, False):
        for name, base in damaged(make_base(packed=packed)):
            write_archive(tmp_path / "base.tar", base.blobs, [base.entry])
            done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar", status=2)
            done.assert_error(2, "base.tar")
            assert not (tmp_path / "env.tar").exists(), name


def test_a_layer_is_what_its_config_says(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{'0' * 64}"]}
    write_base(tmp_path / "base.tar", rootfs=rootfs)
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar", status=2)
    done.assert_error(2, "not what its name says")
    write_base(tmp_path / "base.tar", rootfs={"type": "layers", "diff_ids": []})
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar", status=2)
    done.assert_error(2, "the base has 1 layers and says what 0 of them are")


def test_an_image_has_a_bounded_number_of_layers(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    write_base(tmp_path / "base.tar", *({f"f{n}": b"1"} for n in range(120)))
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar", status=2)
    done.assert_error(2, "are more than 127", "fewer layers")


@pytest.mark.parametrize("listed", [b"", b"{}", b"[1]", b"[[]]", b'[{"Config": "c", "Layers": []}]', b"[]"])
def test_an_archive_of_docker_is_not_believed(
    envforge_here: Command, made: Path, tmp_path: Path, listed: bytes
) -> None:
    with tarfile.open(tmp_path / "saved.tar", "w") as tar:
        info = tarfile.TarInfo("manifest.json")
        info.size = len(listed)
        tar.addfile(info, io.BytesIO(listed))
    done = envforge_here("image", "oci", made, "--base", "saved.tar", "-o", "env.tar", status=2)
    done.assert_error(2, "saved.tar")


def test_without_a_shell_there_is_no_entry_point(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    write_base(tmp_path / "base.tar", {"etc/os-release": b"ID=made\n"}, config={"Entrypoint": ["/own"]})
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar")
    assert "the base has no /bin/sh" in done.err
    assert "Entrypoint" not in Image.read(tmp_path / "env.tar").config["config"]


def test_the_entry_point_of_the_base_gives_way(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"Entrypoint": ["/own", "start"], "Cmd": ["x"], "Env": ["PYTHONPATH=/own"]}
    write_base(tmp_path / "base.tar", config=settings, history=[])
    done = envforge_here("image", "oci", made, "--base", "base.tar", "-o", "env.tar")
    assert "entry point is not run any more: /own start" in done.err
    image = Image.read(tmp_path / "env.tar")
    config = image.config
    assert config["config"]["Entrypoint"] == ["/opt/env/.envforge/run"]
    assert config["config"]["Cmd"] == ["/bin/sh"]
    assert "PYTHONPATH" not in image.environment
    assert image.environment["PATH"].startswith("/opt/env/bin:/usr/local/sbin:")
    assert len(config["history"]) == len(config["rootfs"]["diff_ids"])


# -- a registry ----------------------------------------------------------------------------------------


@dataclass
class Registry:
    """``greet/base`` on loopback: by digest alone, to who has a token, which it gives to who has a login."""

    base: Base
    manifests: Mapping[str, bytes]
    login: str | None = None
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def answer(self, path: str, headers: Mapping[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        parts = urlsplit(path)
        self.asked.append(parts.path)
        if parts.path == "/token":
            wanted = parse_qs(parts.query)
            assert wanted["scope"] == ["repository:greet/base:pull"]
            assert wanted["service"] == ["made"]
            if self.login is not None and headers.get("Authorization") != self.login:
                return 401, {}, b""
            return 200, {}, b'{"token": "T0KEN"}'
        if headers.get("Authorization") != "Bearer T0KEN":
            challenge = f'Bearer realm="{self.url}/token",service="made"'
            return 401, {"WWW-Authenticate": challenge}, b""
        kind, _, digest = parts.path.removeprefix("/v2/greet/base/").partition("/")
        found = (self.manifests if kind == "manifests" else self.base.blobs).get(digest)
        return (404, {}, b"") if found is None else (200, {}, found)


@contextmanager
def serving(registry: Registry) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, content = registry.answer(self.path, dict(self.headers))
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    registry.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield f"127.0.0.1:{server.server_address[1]}/greet/base"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def registry_of(base: Base, **more: Any) -> tuple[Registry, str]:
    """A registry whose root is an index, and its digest."""
    entry = base.entry | {"platform": {"architecture": MACHINE, "os": "linux"}}
    index = json.dumps(
        {"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": [entry]}
    ).encode()
    root = blob("", index)["digest"]
    manifest = {entry["digest"]: base.blobs[entry["digest"]], root: index}
    return Registry(base, manifest, **more), root


def test_a_registry_gives_a_base_by_its_digest(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    registry, root = registry_of(make_base(docker=True))
    with serving(registry) as name:
        words = ("image", "oci", made, "--base", f"docker:{name}@{root}", "-o")
        told = envforge_here(*words, "env.oci.tar", "--json").json
        first = list(registry.asked)
        envforge_here(*words, "again.oci.tar")
        assert registry.asked == first, "what has a digest is not asked for again"
    assert told["base"] == f"docker:{name}@{root}"
    image = Image.read(tmp_path / "env.oci.tar")
    assert image.files()["usr/bin/sh"] == DEBIAN["usr/bin/sh"]
    assert {layer["mediaType"] for layer in image.manifest["layers"]} == {f"{OCI}layer.v1.tar+gzip"}
    labels = image.config["config"]["Labels"]
    assert labels["org.opencontainers.image.base.name"] == name
    assert labels["org.opencontainers.image.base.digest"] == registry.base.entry["digest"]
    assert (tmp_path / "env.oci.tar").read_bytes() == (tmp_path / "again.oci.tar").read_bytes()


@pytest.mark.parametrize("tool", ["netrc", "docker"])
def test_a_login_is_shown_to_who_gives_tokens(
    envforge_here: Command, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tool: str
) -> None:
    pair = base64.b64encode(b"me:s3cret").decode()
    registry, root = registry_of(make_base(), login=f"Basic {pair}")
    with serving(registry) as name:
        words = ("image", "oci", made, "--base", f"docker:{name}@{root}", "-o", "env.oci.tar")
        refused = envforge_here(*words, status=3)
        refused.assert_error(3, "401")
        if tool == "netrc":
            (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
            monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        else:
            auths = {name.partition("/")[0]: {"auth": pair}}
            (tmp_path / "config.json").write_text(json.dumps({"auths": auths, "credsStore": "none"}))
            monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        done = envforge_here(*words)
    assert "s3cret" not in done.out + done.err + refused.err
    assert b"s3cret" not in (tmp_path / "env.oci.tar").read_bytes()


def test_the_login_of_the_longest_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def auth(user: str) -> dict[str, str]:
        return {"auth": base64.b64encode(f"{user}:x".encode()).decode()}

    hub = "https://index.docker.io/v1/"
    auths = {"r.example": auth("all"), "r.example/me": auth("mine"), hub: auth("hub"), "bad": {"auth": 1}}
    (tmp_path / "auth.json").write_text(json.dumps({"auths": auths}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    asked = {"r.example": "me/base", "registry-1.docker.io": "library/debian", "bad": "x", "other": "x"}
    found = {host: registry_login(host, repository) for host, repository in asked.items()}
    assert {host: login and login.user for host, login in found.items()} == {
        "r.example": "mine", "registry-1.docker.io": "hub", "bad": None, "other": None
    }  # fmt: skip
    assert (login := registry_login("r.example", "you/base")) is not None
    assert login.user == "all"


def test_a_registry_is_not_believed(envforge_here: Command, made: Path, tmp_path: Path) -> None:
    registry, root = registry_of(make_base())
    for name in registry.base.blobs:
        if name not in registry.manifests:
            shutil.rmtree(tmp_path / "cache", ignore_errors=True)
            altered = Base({**registry.base.blobs, name: b"something else"}, registry.base.entry)
            other = Registry(altered, registry.manifests)
            with serving(other) as host:
                words = ("--base", f"docker:{host}@{root}", "-o", "env.tar")
                done = envforge_here("image", "oci", made, *words, status=3)
                done.assert_error(3, "wrong sha256")
    other = Registry(registry.base, dict.fromkeys(registry.manifests, b"{}"))
    with serving(other) as host:
        kept = tmp_path / "cache" / "oci" / "blobs" / "sha256" / root.removeprefix("sha256:")
        kept.write_text("altered on the disk")
        done = envforge_here("image", "oci", made, "--base", f"docker:{host}@{root}", "-o", "e.tar", status=3)
        done.assert_error(3, "another manifest than was asked for")
    assert not (tmp_path / "env.tar").exists()
