"""Settings: which file wins, who may set what, and what is said of a file that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envforge.cli.defaults import check_allowed
from envforge.errors import EnvforgeError, InputError
from envforge.settings import KEYS, load_settings, variable_of
from tests.conftest import Shell


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return tmp_path / "site.toml"


def test_later_ones_win_and_say_where_they_were_said(tmp_path: Path, site: Path) -> None:
    site.write_text('channels = ["site"]\nbase-image = "docker:site"\nindexes = ["https://site/simple"]\n')
    user = tmp_path / "config/envforge/config.toml"
    user.parent.mkdir(parents=True)
    user.write_text('channels = ["user"]\nbase-image = "docker:user"\nstore = ["s", "/t"]\n')
    (tmp_path / "pyproject.toml").write_text('[tool.envforge]\nchannels = ["project"]\n')
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config")}
    found = load_settings(tmp_path, environment, site=site)
    assert found.texts("channels") == ("project",)
    assert found.text("base-image") == "docker:user"
    assert found.texts("indexes") == ("https://site/simple",)
    assert found.paths("store") == (user.parent / "s", Path("/t"))
    assert {key: one.origin for key, one in found.found.items()} == {
        "keyring": "built in",
        "channels": f"{tmp_path / 'pyproject.toml'} [tool.envforge]",
        "base-image": str(user),
        "indexes": str(site),
        "store": str(user),
    }
    environment |= {"ENVFORGE_CHANNELS": "a b", "ENVFORGE_KEYRING": "no"}
    found = load_settings(tmp_path, environment, site=site)
    assert found.texts("channels") == ("a", "b")
    assert found.found["channels"].origin == "ENVFORGE_CHANNELS"
    assert not found.flag("keyring")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("chanels = []", "unknown setting 'chanels'"),
        ("channels = 'a'", None),
        ("channels = [1]", "channels is not a list of channels"),
        ("keyring = 'yes'", "keyring is not true or false"),
        ("mirrors = ['x']", "mirrors is not a table"),
        ("store = [2026-11-24]", "store is not a list of paths"),
        ("cache = ''", "cache is not a path"),
        ("channels = [", "no TOML"),
        ("\0", "no TOML"),
        ("a = " + "[" * 5000, "no TOML"),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, site: Path, text: str, words: str | None) -> None:
    site.write_text(text)
    if words is None:
        assert load_settings(tmp_path, {}, site=site).texts("channels") == ("a",)
        return
    with pytest.raises(InputError, match="^" + words) as raised:
        load_settings(tmp_path, {}, site=site)
    assert raised.value.at == str(site)
    assert raised.value.do


@pytest.mark.parametrize("key", [key for key, known in KEYS.items() if not known.by_project])
def test_a_project_does_not_decide_whom_to_trust(tmp_path: Path, site: Path, key: str) -> None:
    (tmp_path / "pyproject.toml").write_text(f"[tool.envforge]\n{key} = 1\n")
    with pytest.raises(InputError, match=f"a project may not set {key}"):
        load_settings(tmp_path, {}, site=site)


def test_a_file_that_is_named_has_to_be_there(tmp_path: Path, site: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_settings(tmp_path, {"ENVFORGE_CONFIG": str(tmp_path / "none")}, site=site)


@given(st.text())
def test_any_text_is_settings_or_an_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        load_settings(path.parent, {}, site=path)
    except EnvforgeError as error:
        said = (error.at, error.do)
        assert all(said)


def test_config_says_what_is_set_without_secrets(envforge: Shell) -> None:
    (envforge.cwd / "own.toml").write_text(
        'channels = ["https://ada:secret@host/t/token/x"]\n'
        '[mirrors]\n"https://pypi.org/simple" = ["https://ada:secret@host/simple"]\n'
    )
    env = {"ENVFORGE_CONFIG": "own.toml", "ENVFORGE_STORE": "/s"}
    told = envforge("config", env=env)
    assert "secret" not in told.out
    assert "token" not in told.out
    assert "https://pypi.org/simple -> https://***@host/simple" in told.out
    document = json.loads(envforge("config", "--json", env=env).out)
    assert list(document) == list(KEYS)
    assert document["store"] == {"value": ["/s"], "origin": "ENVFORGE_STORE", "help": KEYS["store"].help}
    assert document["cache"]["value"] is None
    assert envforge("config", "store", env=env).out == "/s\n"
    assert variable_of("cache") in envforge("config", "cache", env=env).err
    envforge("config", "stor", status=None).assert_error(2, "unknown setting", "envforge config store")


def test_the_sites_keys_are_those_that_are_trusted(envforge: Shell) -> None:
    (envforge.cwd / "own.toml").write_text('trusted-keys = "keys"\n')
    (envforge.cwd / "keys").write_text("")
    (envforge.cwd / "x.sh").write_text("no bundle\n")
    words = ("install", "x.sh", "--prefix", "p", "--require-signature")
    envforge(*words, status=None).assert_error(2, "no keys are trusted")
    named = envforge(*words, env={"ENVFORGE_CONFIG": "own.toml"}, status=None)
    named.assert_error(2, str(envforge.cwd / "keys"))


def test_config_names_the_variable_of_what_is_not_set(envforge: Shell) -> None:
    assert "ENVFORGE_REGISTRY or a settings file would set it" in envforge("config", "registry").err
    assert "provides is not set; a settings file would set it" in envforge("config", "provides").err


def test_the_channels_that_a_site_allows(tmp_path: Path, site: Path) -> None:
    (tmp_path / "own").mkdir()
    site.write_text('allowed-channels = ["defaults", "./own", "https://host/lab/"]\n')
    settings = load_settings(tmp_path, {}, site=site)
    main = "https://repo.anaconda.com/pkgs/main"
    # A login in a channel's URL makes no other channel of it.
    fine = [main, (tmp_path / "own").as_uri(), "https://u:p@host/lab", "https://host/t/token/lab"]
    check_allowed(fine, settings)
    check_allowed(["https://anywhere"], load_settings(tmp_path, {}, site=tmp_path / "none"))
    with pytest.raises(InputError, match="the channel https://host/lab2 may not be used here") as raised:
        check_allowed(["https://u:secret@host/lab2"], settings)
    assert raised.value.at == f"allowed-channels, {site}"
    assert str(raised.value.do).startswith(f"use one of: {main} ")
