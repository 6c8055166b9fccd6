"""The certificates of a site, for engines that look at variables of the environment alone."""

from __future__ import annotations

import os
from pathlib import Path

from envforge.model.access import Access

__all__ = ["certificate_variables", "certificates"]


def certificates(access: Access) -> str | None:
    """A file of certificates for those who look at ``SSL_CERT_FILE`` only; ``None`` where it is set."""
    if os.environ.get("SSL_CERT_FILE"):
        return None
    named = (
        access.certificates or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or ""
    )
    return named if Path(named).is_file() else None


def certificate_variables(access: Access) -> dict[str, str]:
    """What uv is told of certificates: those that it trusts, and the one that it shows."""
    own = certificates(access)
    shown = next((files[0] for files in access.client_certificates.values() if len(files) == 1), None)
    return {
        **({"SSL_CERT_FILE": own} if own else {}),
        **({"SSL_CLIENT_CERT": shown} if shown else {}),
    }
