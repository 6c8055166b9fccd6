"""Logins to registries, from the files of ``docker login``, ``podman login`` and ``skopeo login``.

``REGISTRY_AUTH_FILE``, ``$XDG_RUNTIME_DIR/containers/auth.json``, ``~/.config/containers/auth.json``, and
docker's ``config.json``: ``{"auths": {"HOST/PATH": {"auth": "base64 of USER:PASSWORD"}}}``.  The programs
that such a file may name in place of a password (``credsStore``) are not started.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path

from envforge.edges.credentials import Login

__all__ = ["registry_login"]

_LIMIT = 1_000_000
_HUB = "registry-1.docker.io"
_NAMES_OF_HUB = ("docker.io", "index.docker.io", "https://index.docker.io/v1/")


def registry_login(host: str, repository: str) -> Login | None:
    """The login for a repository: that of the longest path that is named, in the first file that has one."""
    parts = [*(("docker.io",) if host == _HUB else (host,)), *repository.split("/")]
    names = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    names += _NAMES_OF_HUB if host == _HUB else (f"https://{host}", f"https://{host}/v2/")
    for path in _files():
        try:
            auths = json.loads(path.read_bytes()[:_LIMIT])["auths"]
            entry = next(auths[name] for name in names if name in auths)
            user, colon, password = base64.b64decode(entry["auth"]).decode().partition(":")
        except (OSError, ValueError, KeyError, TypeError, StopIteration, RecursionError):
            continue
        if colon:
            return Login(user=user, password=password)
    return None


def _files() -> Iterator[Path]:
    named = os.environ.get("REGISTRY_AUTH_FILE")
    if named:
        yield Path(named)
    running = os.environ.get("XDG_RUNTIME_DIR")
    if running:
        yield Path(running) / "containers" / "auth.json"
    try:
        home = Path.home()
    except RuntimeError:
        return
    yield home / ".config" / "containers" / "auth.json"
    yield Path(os.environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"
