"""What a file does not say of its packages, asked of the channel, of the index, or of the artifact itself.

A row without a sha256 does not exist, and a conda row needs the md5, too.  What the file does say is believed
over the channel: where the two contradict each other the import ends.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from envforge.edges.archive import conda_index
from envforge.edges.channels import channel_urls
from envforge.edges.fetch import Fetcher, local_path
from envforge.errors import CouldNotError, EnvforgeError, InputError
from envforge.formats._draft import PYPI
from envforge.formats._fields import redacted
from envforge.formats._pip_lines import expanded
from envforge.importing.selecting import Member, best_file, filename_of
from envforge.model.foreign import ForeignConda, ForeignFile
from envforge.model.platforms import Target
from envforge.model.urls import without_secrets
from envforge.reporting import Reporter
from envforge.resolvers.conda import CondaRecord
from envforge.resolvers.records import channel_records, indexed_files

_AT_ONCE = 16
_VARIABLE = re.compile(r"\$\{?(\w+)")

__all__ = ["ImportPorts", "completed_conda", "located_files"]


@dataclass(frozen=True, kw_only=True)
class ImportPorts:
    """The world, as far as an import needs it.

    ``cache`` is where repodata and uv's cache lie; ``variables`` are those of the environment, by which files
    name indexes (``${TOKEN}``).
    """

    fetcher: Fetcher
    cache: Path
    reporter: Reporter
    offline: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


def completed_conda(
    packages: Sequence[ForeignConda], channels: Sequence[str], target: Target, ports: ImportPorts
) -> tuple[ForeignConda, ...]:
    """The same packages with URL, both hashes and what they need.

    :param channels: those of the file, in the order of their priority, for what names none.
    :raises InputError: for a package that no channel has, or that a channel has with another hash.
    :raises CouldNotError: if a channel or an artifact cannot be read.
    """
    lacking = [one for one in packages if not _whole(one)]
    if not lacking:
        return tuple(packages)
    wanted: dict[str, list[str]] = {}
    for one in lacking:
        for url in _channels_of(one, channels):
            wanted.setdefault(url, []).append(one.name)
    ports.reporter.step(f"looking {len(lacking)} conda packages up for {target.platform}")
    found = _asked(wanted, lacking, target, ports)
    return tuple(
        one if _whole(one) else _complete(one, found, _channels_of(one, channels), ports) for one in packages
    )


def _whole(one: ForeignConda) -> bool:
    return None not in (one.url, one.sha256, one.md5, one.depends)


def _asked(
    wanted: Mapping[str, Sequence[str]], lacking: Sequence[ForeignConda], target: Target, ports: ImportPorts
) -> Mapping[str, Sequence[CondaRecord]]:
    try:
        return channel_records(wanted, target, cache=ports.cache, fetcher=ports.fetcher)
    except EnvforgeError as error:
        # A channel that is gone does no harm where each artifact can still be read.
        if any(one.url is None for one in lacking) or ports.offline:
            raise
        ports.reporter.note(f"the channel cannot be asked, so each package is downloaded: {error.what}")
        return {}


def _channels_of(one: ForeignConda, channels: Sequence[str]) -> tuple[str, ...]:
    if one.url is not None:
        return (one.url.split("?")[0].rsplit("/", 2)[0],)
    named = [one.channel] if one.channel else channels
    urls = channel_urls(named, Path())
    if not urls:
        raise InputError(
            f"nothing says which channel {one.name} is from",
            at=one.at,
            do="name it, and all others in their order: envforge import -c conda-forge FILE",
        )
    return urls


def _complete(
    one: ForeignConda, found: Mapping[str, Sequence[CondaRecord]], urls: Sequence[str], ports: ImportPorts
) -> ForeignConda:
    records = [record for url in urls for record in found.get(url, ())]
    fits = [record for record in records if _same(one, record)]
    fits.sort(key=lambda record: not record.url.endswith(".conda"))
    if not fits:
        if one.url is None:
            raise InputError(
                f"no channel has {one.name}={one.version}={one.build} for {one.platform}",
                at=one.at,
                do=f"look in: {', '.join(map(redacted, urls))}; or lock it anew: envforge lock",
            )
        return _from_artifact(one, ports)
    record = fits[0]
    for kind in ("sha256", "md5"):
        said, there = getattr(one, kind), getattr(record, kind)
        if said is not None and there is not None and said != there:
            raise InputError(
                f"the channel has another {one.name}: its {kind} is {there}, the file says {said}",
                at=one.at,
                do="do not use this file; ask whoever made it, or lock anew: envforge lock",
            )
    whole = replace(
        one,
        name=record.name,
        url=one.url or without_secrets(record.url, tokens=True),
        sha256=one.sha256 or record.sha256,
        md5=one.md5 or record.md5,
        depends=record.depends if one.depends is None else one.depends,
    )
    return whole if _whole(whole) else _from_artifact(whole, ports)


def _same(one: ForeignConda, record: CondaRecord) -> bool:
    if one.url is not None:
        return one.url.rsplit("/", 2)[1:] == record.url.rsplit("/", 2)[1:]
    return (one.name, one.version, one.build) == (record.name, record.version, record.build)


def _from_artifact(one: ForeignConda, ports: ImportPorts) -> ForeignConda:
    """Both hashes and the dependencies from the package itself."""
    url = one.url or ""
    ports.reporter.detail(f"{one.name}: its channel does not list it; read from the file")
    with tempfile.TemporaryDirectory(prefix="envforge-") as directory:
        path = Path(directory) / "artifact"
        got = ports.fetcher.download(url, path, sha256=one.sha256, md5=one.md5)
        index = conda_index(path, unquote(urlsplit(url).path.rsplit("/", 1)[-1]), scratch=Path(directory))
    depends = index.get("depends", [])
    if not isinstance(depends, list) or not all(isinstance(spec, str) for spec in depends):
        raise InputError("depends is not a list of strings", at=redacted(url), do="lock another build")
    return replace(one, sha256=got.sha256, md5=got.md5, depends=tuple(depends))


def located_files(
    chosen: Sequence[Member], target: Target, python: str, indexes: Sequence[str], ports: ImportPorts
) -> tuple[list[tuple[Member, ForeignFile]], list[str]]:
    """For each package the file to lock, by URL, with its sha256; and what was seen, and no index has.

    A package that says nothing about its files, or gives hashes only, is looked up on the index.

    :param indexes: where to look; none for PyPI.
    :raises InputError: if nothing fits the target, or the index has no file of that hash.
    :raises CouldNotError: if an index or a file cannot be read.
    """
    indexes = [_filled_in(index, ports.variables) for index in indexes or (PYPI,)]
    unplaced = [one for one in chosen if not any(file.url for file in one.package.files)]
    looked_up = _look_up(unplaced, indexes, ports) if unplaced else []
    offered = {id(one): files for one, files in zip(unplaced, looked_up, strict=True)}
    found = []
    unknown: list[str] = []
    for one in chosen:
        files: Sequence[ForeignFile] = one.package.files
        if id(one) in offered:
            if not offered[id(one)]:
                unknown.append(f"{one.package.name} {one.package.version}")
                continue
            files = _allowed(one, offered[id(one)])
        picked = _pick(one, files, target, python)
        found.append((one, _hashed(one, picked, ports)))
    return found, unknown


def _filled_in(index: str, variables: Mapping[str, str]) -> str:
    found = expanded(index, variables)
    missing = _VARIABLE.search(found)
    if missing is not None:
        raise InputError(
            f"the variable {missing[1]} is not set, by which an index is named",
            at=redacted(index),
            do=f"export {missing[1]}=...   # or name the index: --index-url URL",
        )
    return found


def _look_up(
    unplaced: Sequence[Member], indexes: Sequence[str], ports: ImportPorts
) -> list[Sequence[ForeignFile]]:
    """What the indexes have of each package; nothing where it may be missing there."""
    ports.reporter.step(f"looking {len(unplaced)} PyPI packages up")
    if ports.offline and any(local_path(index) is None for index in indexes):
        raise CouldNotError(
            "an index must be asked, and --offline forbids it",
            at=unplaced[0].package.at,
            do="import without --offline; the file does not say where its packages lie",
        )

    def one(member: Member) -> Sequence[ForeignFile]:
        package = member.package
        files = indexed_files(package.name, package.version, indexes=indexes, fetcher=ports.fetcher)
        if not files and not package.seen:
            raise InputError(
                f"{', '.join(map(redacted, indexes))} does not have {package.name} {package.version}",
                at=package.at,
                do="name the index that has it: --index-url URL",
            )
        return files

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return list(pool.map(one, unplaced))


def _allowed(one: Member, files: Sequence[ForeignFile]) -> list[ForeignFile]:
    """The files of the index whose hash the file allows; all of them where it names none."""
    hashes = {file.sha256 for file in one.package.files} - {None}
    kept = [file for file in files if not hashes or file.sha256 in hashes or file.sha256 is None]
    if not kept:
        raise InputError(
            f"the index has no file of {one.package.name} {one.package.version} with a hash that is locked",
            at=one.package.at,
            do="name the index that it was locked from: --index-url URL; or lock anew: envforge lock",
        )
    return kept


def _tagged(filename: str | None) -> tuple[str, object] | None:
    """A wheel by its version and tags, however the parts of its name are ordered."""
    try:
        _, version, _, tags = parse_wheel_filename(filename or "")
    except InvalidWheelFilename:
        return None
    return str(version), tags


def _pick(one: Member, files: Sequence[ForeignFile], target: Target, python: str) -> ForeignFile:
    if len(files) == 1 and one.package.platforms is not None:
        return files[0]  # the file was chosen already, by who knew the platform
    called = {_tagged(file.filename) for file in one.package.files if file.filename} - {None}
    installed = [file for file in files if one.package.seen and _tagged(file.filename) in called]
    best = best_file(installed, target, python) or best_file(files, target, python)
    if best is None:
        names = ", ".join(sorted(map(filename_of, files))[:2]) or "none"
        raise InputError(
            f"no file of {one.package.name} {one.package.version} fits {target.platform} and Python {python}",
            at=one.package.at,
            do=f"name another Python or platform: --python X.Y, -p PLATFORM; there is: {redacted(names)}",
        )
    return best


def _hashed(one: Member, file: ForeignFile, ports: ImportPorts) -> ForeignFile:
    if file.sha256 is not None or file.url is None:
        return file
    with tempfile.TemporaryDirectory(prefix="envforge-") as directory:
        got = ports.fetcher.download(file.url.partition("#")[0], Path(directory) / "file", sha256=None)
    locked = {other.sha256 for other in one.package.files} - {None}
    if locked and got.sha256 not in locked:
        raise InputError(
            f"the file of {one.package.name} has another sha256 than is locked: {got.sha256}",
            at=one.package.at,
            do="do not use this index; name the one that it was locked from: --index-url URL",
        )
    return replace(file, sha256=got.sha256)
