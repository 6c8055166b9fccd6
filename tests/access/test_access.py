"""Hosts that want to know who asks, and sites that have elsewhere what a lockfile names."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from envforge.demo.channel import ChannelBuilder
from envforge.demo.interpreter import host_platform
from envforge.demo.packages import File, Package, noarch_python
from envforge.edges.credentials import Login
from envforge.edges.fetch import Fetcher
from envforge.errors import CouldNotError, InputError
from envforge.model.access import Access
from envforge.model.platforms import Target
from envforge.reporting import Recorder
from envforge.resolvers.conda import CondaRequest
from envforge.resolvers.conda.client import conda_client
from envforge.resolvers.conda.solver import Solver
from envforge.resolvers.provided import Channels, metadata_of_provided, provided_by
from tests.conftest import Shell

ADA = "Basic " + base64.b64encode(b"ada:secret").decode()


@dataclass
class Host:
    """A server on loopback that wants ``wanted`` in ``Authorization`` and has ``files``, by path."""

    server: ThreadingHTTPServer
    scheme: str = "http"
    wanted: str | None = None
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"{self.scheme}://localhost:{self.server.server_port}"


def serve(context: ssl.SSLContext | None = None) -> Iterator[Host]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            shown = self.headers.get("Authorization")
            served.asked.append((self.path, shown))
            content = served.files.get(self.path)
            status = 401 if served.wanted not in (None, shown) else 404 if content is None else 200
            self.send_response(status)
            self.send_header("Content-Length", str(len(content or b"") if status == 200 else 0))
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "text/plain")
            self.end_headers()
            if status == 200 and content:
                self.wfile.write(content)

        do_HEAD = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    served = Host(server, "http" if context is None else "https")
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def host() -> Iterator[Host]:
    yield from serve()


@pytest.fixture
def other() -> Iterator[Host]:
    yield from serve()


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without logins."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NETRC", "RATTLER_AUTH_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def read(url: str, access: Access | None = None) -> bytes:
    return Fetcher(retries=0, access=access).read(url, limit=1000)


def test_a_login_comes_from_where_people_keep_it(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.files["/a"], host.wanted = b"a", ADA
    with pytest.raises(CouldNotError, match="401"):
        read(f"{host.url}/a")
    assert read(f"{host.url}/a".replace("://", "://ada:secret@")) == b"a"
    (tmp_path / "netrc").write_text("machine localhost login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert read(f"{host.url}/a") == b"a"
    monkeypatch.delenv("NETRC")
    store = tmp_path / "credentials.json"
    monkeypatch.setenv("RATTLER_AUTH_FILE", str(store))
    store.write_text(json.dumps({"localhost": {"BasicHTTP": {"username": "ada", "password": "secret"}}}))
    assert read(f"{host.url}/a") == b"a"
    host.wanted = "Bearer t0k"
    store.write_text(json.dumps({"*.localhost": {"BearerToken": "t0k"}}))
    assert read(f"{host.url}/a") == b"a"
    host.wanted, host.files["/t/t0k/chan/x"] = None, b"x"
    store.write_text(json.dumps({"localhost": {"CondaToken": "t0k"}}))
    assert read(f"{host.url}/chan/x") == b"x"


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"localhost": 1}', '{"localhost": {"BearerToken": 1}}', "\0"]
)
def test_a_file_of_logins_that_is_none_is_passed_over(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    host.files["/a"] = b"a"
    for variable in ("RATTLER_AUTH_FILE", "NETRC"):
        path = tmp_path / variable
        path.write_text(text)
        monkeypatch.setenv(variable, str(path))
    assert read(f"{host.url}/a") == b"a"


def test_a_login_is_shown_to_nobody() -> None:
    assert "secret" not in repr(Login(user="ada", password="secret"))


def test_a_login_does_not_follow_to_another_host(host: Host, other: Host) -> None:
    other.files["/a"] = b"a"
    host.wanted = ADA
    access = Access(mirrors={host.url: (f"{host.url}/none", other.url)})
    assert read(f"{host.url}/a".replace("://", "://ada:secret@"), access) == b"a"
    assert [shown for _, shown in other.asked] == [None]


KEYRING = """
import keyring.backend, keyring.credentials
class Backend(keyring.backend.KeyringBackend):
    priority = 1
    def get_password(self, service, username): return None
    def set_password(self, *args): pass
    def get_credential(self, service, username):
        if service == "localhost:PORT":
            return keyring.credentials.SimpleCredential("ada", "secret")
"""
ASKING = """
import sys
from envforge.edges.fetch import Fetcher
from envforge.model.access import Access
print(Fetcher(retries=0, access=Access(keyring=sys.argv[2] == "yes")).read(sys.argv[1], limit=10))
"""


def test_the_keyring_is_asked_where_a_host_refuses(host: Host, tmp_path: Path) -> None:
    host.files["/a"], host.wanted = b"a", ADA
    (tmp_path / "own_keyring.py").write_text(KEYRING.replace("PORT", str(host.server.server_port)))
    env = {
        "PYTHONPATH": str(tmp_path),
        "PYTHON_KEYRING_BACKEND": "own_keyring.Backend",
        "HOME": str(tmp_path),
    }
    for allowed, status in (("yes", 0), ("no", 1)):
        done = subprocess.run(
            [sys.executable, "-c", ASKING, f"{host.url}/a", allowed],
            env=env,
            capture_output=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
    assert [shown for _, shown in host.asked] == [None, ADA, None]


CHANNEL = """
import sys
from dataclasses import replace
from pathlib import Path
from envforge.edges.fetch import Fetcher
from envforge.errors import CouldNotError
from envforge.model.access import Access
from envforge.model.platforms import Target
from envforge.resolvers.conda import CondaRequest
from envforge.reporting import Recorder
from envforge.resolvers.conda.solver import Solver
from envforge.resolvers.provided import Channels, provided_by
url, cache, allowed = sys.argv[1:]
fetcher = Fetcher(access=Access(keyring=allowed == "yes"))
solver = Solver(cache=Path(cache), fetcher=fetcher, channels=(url,))
request = CondaRequest(channels=(url,), specs=(), target=Target(platform="linux-64", virtual_packages=()))
try:
    solver.known(request, ["b"])
    [record] = solver.known(request, ["a"])
    channels = Channels(urls=(url,), access=fetcher.access)
    record = replace(record, python_package=True)
    provided_by([record], cache=Path(cache), reporter=Recorder(), channels=channels)
except CouldNotError as error:
    print(error.what)
print("keyring" in sys.modules)
"""


@pytest.mark.parametrize(
    ("wanted", "allowed", "said"),
    [
        (None, "yes", ["False"]),
        (ADA, "yes", ["True"]),
        (ADA, "no", ["the channel answered 401", "False"]),
    ],
)
def test_the_keyring_is_asked_for_a_channel_only_where_it_refuses(
    host: Host, filled: ChannelBuilder, tmp_path: Path, wanted: str | None, allowed: str, said: list[str]
) -> None:
    stock(host, filled, "/chan")
    host.wanted = wanted
    (tmp_path / "own_keyring.py").write_text(KEYRING.replace("PORT", str(host.server.server_port)))
    done = subprocess.run(
        [sys.executable, "-c", CHANNEL, f"{host.url}/chan", str(tmp_path / "cache"), allowed],
        env={
            "PYTHONPATH": str(tmp_path),
            "PYTHON_KEYRING_BACKEND": "own_keyring.Backend",
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == said, done.stderr
    assert (ADA in [shown for _, shown in host.asked]) == (said == ["True"])


def test_what_a_package_brings_is_known_offline_once_it_was_looked_at(
    host: Host, builder: ChannelBuilder, tmp_path: Path
) -> None:
    builder.add(noarch_python("pytorch", "2.0", {}, requires=('fast; extra == "cuda"',)))
    stock(host, builder, "/chan")
    channels = Channels(urls=(f"{host.url}/chan",), access=Access())
    request = CondaRequest(
        channels=channels.urls, specs=(), target=Target(platform="linux-64", virtual_packages=())
    )
    records = Solver(cache=tmp_path / "cache", channels=channels.urls).known(request, ["pytorch"])

    def asked(cache: str, *, offline: bool) -> tuple[str, str | None]:
        said = Recorder()
        [one] = provided_by(
            records, cache=tmp_path / cache, reporter=said, channels=channels, offline=offline
        )
        text = metadata_of_provided(one, channels, cache=tmp_path / cache, offline=offline)
        assert one.guessed == any("the files of pytorch cannot be looked into" in line for line in said.notes)
        return one.name, text

    name, text = asked("cache", offline=False)
    assert (name, 'extra == "cuda"' in (text or "")) == ("pytorch", True)
    host.asked.clear()
    assert asked("cache", offline=True) == (name, text)
    assert asked("empty", offline=True) == ("torch", None)
    assert not host.asked


@pytest.mark.parametrize("own", [False, True], ids=["the index", "the index of one project"])
def test_the_keyring_is_asked_for_an_index_only_where_it_refuses(
    host: Host, envforge: Shell, tmp_path: Path, *, own: bool
) -> None:
    host.files["/simple/a/"] = (
        b'<a href="/a-1.0-py3-none-any.whl#sha256=' + b"0" * 64 + b'" data-core-metadata="true">a</a>'
    )
    host.files["/a-1.0-py3-none-any.whl.metadata"] = b"Metadata-Version: 2.1\nName: a\nVersion: 1.0\n"
    (tmp_path / "own_keyring.py").write_text(KEYRING.replace("PORT", str(host.server.server_port)))
    index = "" if own else f"--index-url {host.url}/simple, "
    spec = f"dependencies: [{{pip: [{index}a]}}]\nplatforms: [linux-64]\n"
    options = ["--index-of", f"a={host.url}/simple"] if own else []
    (envforge.cwd / "environment.yml").write_text(spec)
    for wanted, allowed, status in ((None, "1", 0), (ADA, "1", 0), (ADA, "0", 3)):
        host.wanted = wanted
        host.asked.clear()
        done = subprocess.run(
            [sys.executable, "-m", "envforge", "lock", "-U", "--python", "3.12", *options],
            cwd=envforge.cwd,
            env={
                "PYTHONPATH": str(tmp_path),
                "PYTHON_KEYRING_BACKEND": "own_keyring.Backend",
                "HOME": str(tmp_path),
                "ENVFORGE_CACHE": str(tmp_path / f"cache-{status}-{wanted is None}"),
                "ENVFORGE_KEYRING": allowed,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stderr
        assert (ADA in [shown for _, shown in host.asked]) == (wanted is not None and status == 0)


def test_a_mirror_is_asked_in_place_of_the_origin(host: Host, other: Host) -> None:
    other.files["/pkgs/noarch/a"] = b"a"
    access = Access(mirrors={"https://conda.invalid/chan": (host.url, f"{other.url}/pkgs")})
    assert read("https://conda.invalid/chan/noarch/a", access) == b"a"
    assert [path for path, _ in host.asked] == ["/noarch/a"]
    with pytest.raises(CouldNotError, match="404"):
        read("https://conda.invalid/chan/noarch/b", access)
    assert access.places("https://conda.invalid/channel/a") == ("https://conda.invalid/channel/a",)


def test_a_mirror_is_a_directory(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"a")
    access = Access(mirrors={"https://conda.invalid": (tmp_path.as_uri(),)})
    assert read("https://conda.invalid/a", access) == b"a"


def test_what_a_mirror_says_is_written_down_as_the_origin() -> None:
    access = Access(
        mirrors={
            "https://files.pythonhosted.org": ("https://ada:secret@site/pypi",),
            "https://files.pythonhosted.org/packages/x": ("https://site/pypi/x",),
        }
    )
    assert access.origin("https://site/pypi/a.whl") == "https://files.pythonhosted.org/a.whl"
    assert access.origin("https://site/pypi/x/a") == "https://files.pythonhosted.org/packages/x/a"
    assert access.origin("https://elsewhere/a") == "https://elsewhere/a"


@pytest.mark.parametrize(
    "settings",
    [{"mirrors": {"conda-forge": ("https://x",)}}, {"client_certificates": {"h": ("a", "b", "c")}}],
)
def test_settings_that_no_request_could_use_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InputError):
        Access(**settings)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Authority:
    """Certificates for localhost and for a client, of an authority that nobody knows."""

    directory: Path

    def path(self, name: str) -> str:
        return str(self.directory / name)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    directory = tmp_path_factory.mktemp("authority")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    new = ["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    try:
        openssl(*new, "-x509", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca", "-days", "2")
    except FileNotFoundError:
        pytest.skip("openssl is not here, and makes the certificates")
    (directory / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    for name in ("server", "client"):
        openssl(*new, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", f"{name}.pem", "-days", "2", "-extfile", "names",
        )  # fmt: skip
    return Authority(directory)


@pytest.fixture
def guarded(authority: Authority) -> Iterator[Host]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.path("server.pem"), authority.path("server.key"))
    context.load_verify_locations(authority.path("ca.pem"))
    context.verify_mode = ssl.CERT_OPTIONAL
    yield from serve(context)


def test_a_sites_certificates_and_ones_own(guarded: Host, authority: Authority) -> None:
    guarded.files["/a"] = b"a"
    with pytest.raises(CouldNotError, match="no trusted connection"):
        read(f"{guarded.url}/a")
    known = authority.path("ca.pem")
    assert read(f"{guarded.url}/a", Access(certificates=known)) == b"a"
    own = (authority.path("client.pem"), authority.path("client.key"))
    host = f"localhost:{guarded.server.server_port}"
    shown = Access(certificates=known, client_certificates={host: own})
    assert read(f"{guarded.url}/a", shown) == b"a"
    with pytest.raises(CouldNotError, match="no such client certificate"):
        read(f"{guarded.url}/a", Access(certificates=known, client_certificates={host: ("/none.pem",)}))


def channel(host: Host, place: str = "") -> str:
    for subdir in ("noarch", "linux-64"):
        host.files[f"{place}/{subdir}/repodata.json"] = json.dumps(
            {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}}
        ).encode()
    return host.url + place


def names(url: str, access: Access, cache: Path) -> int:
    """How many names the channel at ``url`` has, as py-rattler reads it; it raises if it cannot."""
    from rattler import Channel, Gateway

    async def ask() -> int:
        gateway = Gateway(cache_dir=cache, client=conda_client(access, [url]))
        return len(await gateway.names([Channel(url)], ["linux-64", "noarch"]))

    return asyncio.run(ask())


def test_a_channel_is_read_through_a_mirror_that_wants_a_login(host: Host, tmp_path: Path) -> None:
    channel(host, "/chan")
    host.wanted = ADA
    place = f"{host.url}/chan".replace("://", "://ada:secret@")
    access = Access(mirrors={"https://conda.invalid/chan": (place,)})
    assert names("https://conda.invalid/chan", access, tmp_path / "cache") == 0


def test_a_channel_wants_a_login_out_of_netrc(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine localhost login ada password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    host.wanted = ADA
    assert names(channel(host), Access(), tmp_path / "cache") == 0


def test_a_channel_with_a_sites_certificate(
    guarded: Host, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "")  # restored afterwards, whatever the client sets
    assert names(channel(guarded), Access(certificates=authority.path("ca.pem")), tmp_path / "cache") == 0


# -- by the command line -----------------------------------------------------------------------------------


def stock(host: Host, builder: ChannelBuilder, place: str) -> None:
    """Have the channel of ``builder`` at ``place`` of a host."""
    builder.write_index()
    for path in builder.directory.rglob("*"):
        if path.is_file():
            host.files[f"{place}/{path.relative_to(builder.directory).as_posix()}"] = path.read_bytes()


@pytest.fixture
def filled(builder: ChannelBuilder) -> ChannelBuilder:
    files = {"share/a": File(data=b"a")}
    builder.add(Package(name="a", version="1.0", subdir="noarch", noarch="generic", files=files))
    return builder


def test_the_channel_whose_mirror_is_not_reached_is_named(
    host: Host, filled: ChannelBuilder, envforge: Shell, other: Host
) -> None:
    stock(host, filled, "/good")
    other.wanted = ADA
    (envforge.cwd / "own.toml").write_text(
        'keyring = false\nchannels = ["https://conda.invalid/good", "https://conda.invalid/lost"]\n[mirrors]\n'
        f'"https://conda.invalid/good" = ["{host.url}/good"]\n'
        f'"https://conda.invalid/lost" = ["{other.url}/lost"]\n'
    )
    (envforge.cwd / "environment.yml").write_text("dependencies: [a]\nplatforms: [linux-64]\n")
    refused = envforge("lock", status=3, env={"ENVFORGE_CONFIG": "own.toml"})
    assert "the channel answered 401" in refused.err
    assert f"  at: https://conda.invalid/lost, fetched from {other.url}/lost\n" in refused.err


def test_a_lock_through_a_mirror_says_the_origin(
    host: Host, filled: ChannelBuilder, envforge: Shell, tmp_path: Path
) -> None:
    stock(host, filled, "/site")
    host.wanted = ADA
    (envforge.cwd / "own.toml").write_text(
        'channels = ["https://conda.invalid/chan"]\n[mirrors]\n'
        f'"https://conda.invalid/chan" = ["{host.url.replace("://", "://ada:secret@")}/site"]\n'
    )
    (envforge.cwd / "environment.yml").write_text("dependencies: [a]\nplatforms: [linux-64]\n")
    env = {"ENVFORGE_CONFIG": "own.toml"}
    envforge("lock", env=env)
    text = (envforge.cwd / "conda-lock.yml").read_text()
    assert "https://conda.invalid/chan/noarch/a-1.0-" in text
    assert "localhost" not in text
    assert "secret" not in text
    assert envforge("mirror", "conda-lock.yml", "mirror", "--json", env=env).json["downloaded"] == 1
    assert "secret" not in "".join(p.read_text() for p in (envforge.cwd / "mirror").rglob("*.json"))
    # A mirror that is a directory, which py-rattler's client could not read.
    (envforge.cwd / "own.toml").write_text(
        f'[mirrors]\n"https://conda.invalid/chan" = ["{filled.directory.as_uri()}"]\n'
    )
    (envforge.cwd / "environment.yml").write_text(
        "channels: ['https://conda.invalid/chan']\ndependencies: [a]\nplatforms: [linux-64]\n"
    )
    host.asked.clear()
    envforge("lock", env=env)
    assert (envforge.cwd / "conda-lock.yml").read_text() == text
    envforge("mirror", "conda-lock.yml", "other", env=env)
    assert not host.asked


def test_a_channel_that_wants_a_certificate_is_locked(
    authority: Authority, filled: ChannelBuilder, envforge: Shell
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority.path("server.pem"), authority.path("server.key"))
    context.load_verify_locations(authority.path("ca.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    serving = serve(context)
    host = next(serving)
    try:
        stock(host, filled, "/lab")
        (envforge.cwd / "own.toml").write_text(
            f'ca-certificates = "{authority.path("ca.pem")}"\n[client-certificates]\n'
            f'localhost = ["{authority.path("client.pem")}", "{authority.path("client.key")}"]\n'
        )
        (envforge.cwd / "environment.yml").write_text(
            f"channels: ['{host.url}/lab']\ndependencies: [a]\nplatforms: [linux-64]\n"
        )
        env = {"ENVFORGE_CONFIG": "own.toml"}
        envforge("lock", env=env)
        assert f"{host.url}/lab/noarch/a-1.0-" in (envforge.cwd / "conda-lock.yml").read_text()
        envforge("mirror", "conda-lock.yml", "mirror", env=env)
        host.asked.clear()
        envforge("lock", "-U", "--offline", env=env)
        assert not host.asked
        envforge("lock", "-U", status=None).assert_error(3, f"{host.url}/lab")
    finally:
        next(serving, None)


def test_a_site_says_which_channels_may_be_used(filled: ChannelBuilder, envforge: Shell) -> None:
    filled.write_index()
    url = filled.directory.as_uri()
    (envforge.cwd / "environment.yml").write_text(
        f"channels: ['{url}']\ndependencies: [a]\nplatforms: [{host_platform()}]\n"
    )
    envforge("lock")
    envforge("mirror", "conda-lock.yml", "mirror")
    (envforge.cwd / "own.toml").write_text('allowed-channels = ["conda-forge"]\n')
    env = {"ENVFORGE_CONFIG": "own.toml"}
    # Before anything is asked of it.
    (envforge.cwd / "other.yml").write_text("channels: ['http://127.0.0.1:9']\ndependencies: [a]\n")
    envforge("lock", "other.yml", env=env, status=None).assert_error(2, "http://127.0.0.1:9 may not be used")
    for words in (("lock", "-U"), ("mirror", "conda-lock.yml", "m"), ("install", "mirror", "--prefix", "p")):
        refused = envforge(*words, env=env, status=None)
        refused.assert_error(
            2, f"the channel {url} may not be used here", "https://conda.anaconda.org/conda-forge"
        )
    assert not (envforge.cwd / "p").exists()
    (envforge.cwd / "own.toml").write_text(f'allowed-channels = ["conda-forge", "{url}/"]\n')
    envforge("lock", "-U", env=env)
    envforge("install", "mirror", "--prefix", "p", env=env)
