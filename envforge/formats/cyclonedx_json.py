"""A software bill of materials: CycloneDX 1.6 in JSON, written by ``cyclonedx-python-lib``.

Goals: valid by the schema; a function of the lockfile, the rows and their facts: no date, a serial number
that is derived; no secret of a URL; every package with purl, hashes, licence and what it depends on.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from envforge import __version__
from envforge.model.bill import PackageFacts
from envforge.model.lockfile import LockedPackage, Lockfile, canonical_name
from envforge.model.urls import public_url

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License
    from packageurl import PackageURL

__all__ = ["purl", "write"]

_SERIAL = uuid.UUID("6c0e7e1e-5b0a-5f0e-9d53-0b8d3f0c1a77")
"""The name space of the serial numbers."""
_WORD = re.compile(r"\(|\)|[A-Za-z0-9.+:-]+")
_OWN_ID = re.compile(r"LicenseRef-[A-Za-z0-9.-]+")


def write(
    lockfile: Lockfile, platform: str, rows: Sequence[LockedPackage], facts: Mapping[str, PackageFacts]
) -> str:
    """The document for ``rows``, which are those of one platform.

    :param facts: by the sha256 of the artifact; a package without has no licence in the document.
    """
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.model.tool import ToolRepository
    from cyclonedx.output import make_outputter
    from cyclonedx.schema import OutputFormat, SchemaVersion

    tool = Component(name="envforge", version=__version__, type=ComponentType.APPLICATION)
    root = Component(name=lockfile.name, type=ComponentType.APPLICATION, bom_ref="environment")
    properties = [
        Property(name="envforge:lock", value=f"sha256:{lockfile.digest()}"),
        Property(name="envforge:platform", value=platform),
    ]
    metadata = BomMetaData(tools=ToolRepository(components=[tool]), component=root, properties=properties)
    metadata.timestamp = None  # type: ignore[assignment]  # the schema has it optional
    bom = Bom(serial_number=_serial(lockfile, platform, rows), metadata=metadata)
    parts = {row.url: _component(row, facts.get(row.sha256 or "")) for row in rows}
    for part in parts.values():
        bom.components.add(part)
    bom.register_dependency(root, parts.values())
    for url, needed in _dependencies(rows).items():
        bom.register_dependency(parts[url], [parts[other] for other in needed])
    text = make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1)
    return f"{text}\n"


def _serial(lockfile: Lockfile, platform: str, rows: Sequence[LockedPackage]) -> uuid.UUID:
    inside = hashlib.sha256("\n".join(sorted(row.url for row in rows)).encode()).hexdigest()
    return uuid.uuid5(_SERIAL, f"{lockfile.digest()} {platform} {inside}")


def purl(row: LockedPackage) -> PackageURL:
    """The package URL of a row: ``pkg:conda/…`` with build, channel, subdir and type, or ``pkg:pypi/…``."""
    from packageurl import PackageURL

    if row.manager == "pip":
        return PackageURL(
            type="pypi",
            name=canonical_name(row.name),
            version=row.version,
            qualifiers={"file_name": row.filename},
        )
    channel = public_url(row.channel, conda=True).rstrip("/").rsplit("/", 1)[-1]
    qualifiers = {
        "build": row.build_string,
        "channel": channel,
        "subdir": row.subdir,
        "type": "conda" if row.filename.endswith(".conda") else "tar.bz2",
    }
    return PackageURL(type="conda", name=row.name, version=row.version, qualifiers=qualifiers)


def _component(row: LockedPackage, facts: PackageFacts | None) -> Component:
    from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
    from cyclonedx.model.component import Component, ComponentType

    name = purl(row)
    hashes = [(HashAlgorithm.SHA_256, row.sha256), (HashAlgorithm.MD5, row.md5)]
    origin = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION, url=XsUri(public_url(row.url, conda=row.manager == "conda"))
    )
    return Component(
        name=row.name,
        version=row.version,
        type=ComponentType.LIBRARY,
        bom_ref=name.to_string(),
        purl=name,
        hashes=[HashType(alg=kind, content=value) for kind, value in hashes if value is not None],
        licenses=[_license(facts.license)] if facts is not None and facts.license else [],
        external_references=[origin],
    )


def _license(text: str) -> License:
    """An SPDX id or expression if it is one, else a name.

    The library's own test for expressions follows another package's list, which changes more often.
    """
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from cyclonedx.spdx import fixup_id, is_supported_id

    known = fixup_id(text)
    if known is not None:
        return DisjunctiveLicense(id=known)
    if _is_expression(text, is_supported_id):
        return LicenseExpression(text)
    return DisjunctiveLicense(name=text)


def _is_expression(text: str, known: Callable[[str], bool]) -> bool:
    """Whether ``text`` is an SPDX expression of known ids: terms, ``WITH``, ``AND``, ``OR``, brackets."""
    words = _WORD.findall(text)
    if "".join(words) != "".join(text.split()):
        return False
    shape = "".join(_shape(word, known) for word in words)
    shape = shape.replace("iwi", "i").replace("iwu", "i")  # an exception is on another list than the ids
    before = ""
    while shape != before:
        before, shape = shape, shape.replace("ioi", "i").replace("(i)", "i")
    return shape == "i"


def _shape(word: str, known: Callable[[str], bool]) -> str:
    special = {"(": "(", ")": ")", "AND": "o", "OR": "o", "WITH": "w"}
    if word in special:
        return special[word]
    is_id = _OWN_ID.fullmatch(word) or known(word) or known(word.removesuffix("+"))
    return "i" if is_id else "u"


def _dependencies(rows: Sequence[LockedPackage]) -> dict[str, list[str]]:
    """URLs of what each row depends on, as far as it is among ``rows``; virtual packages are not."""
    conda = {row.name: row.url for row in rows if row.manager == "conda"}
    wheels = {canonical_name(row.name): row.url for row in rows if row.manager == "pip"}
    found = {}
    for row in rows:
        if row.manager == "conda":
            needed = [conda.get(name) for name in row.dependencies]
        else:  # a conda package may be what provides it
            names = [canonical_name(name) for name in row.dependencies]
            needed = [wheels.get(name) or conda.get(name) for name in names]
        found[row.url] = sorted({url for url in needed if url is not None and url != row.url})
    return found
