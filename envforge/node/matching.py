"""Whether a package is what a MatchSpec asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from envforge.errors import InputError
from envforge.model.lockfile import LockedPackage, canonical_name

if TYPE_CHECKING:
    from rattler import MatchSpec

__all__ = ["matcher", "matches"]


def matcher(text: str) -> Callable[[LockedPackage], bool]:
    """A function that says of a row whether it is what ``text`` asks for, a MatchSpec.

    A PyPI project is asked for by its name and version, whatever the spelling of its name.

    :raises InputError: if ``text`` is no MatchSpec.
    """
    from rattler import MatchSpec

    try:
        spec = MatchSpec(text, strict=False)
        name = str(spec.name.normalized)
    except Exception as error:
        raise InputError(
            f"{text!r} is no MatchSpec: {str(error).splitlines()[0]}",
            at=text,
            do="write it as NAME, 'NAME>=VERSION' or 'NAME=VERSION=BUILD'",
        ) from error
    return lambda row: _names(row, name) and matches(spec, row)


def _names(row: LockedPackage, name: str) -> bool:
    if row.manager == "conda":
        return row.name == name
    return canonical_name(row.name) == canonical_name(name)


def matches(spec: MatchSpec, row: LockedPackage) -> bool:
    """Whether a row of the right name has the version, and of conda the build and channel, of ``spec``."""
    from rattler import MatchSpec, PackageRecord
    from rattler.package.build_string import BuildString

    conda = row.manager == "conda"
    build = row.build_string if conda else "0"
    digits = build.rpartition("_")[2]
    wanted = (spec.build or "*") if conda else "*"
    try:
        record = PackageRecord(
            name=row.name,
            version=row.version,
            build=BuildString(build),
            build_number=int(digits) if digits.isdigit() else 0,
            subdir=row.subdir if conda else row.platform,
        )
        plain = MatchSpec(f"{row.name} {spec.version or '*'} {wanted}", strict=False)
    except Exception:  # noqa: BLE001 - a version that conda cannot order fits only where any does
        return spec.version is None
    if conda and spec.channel is not None and str(spec.channel.base_url).rstrip("/") != row.channel:
        return False
    return plain.matches(record)
