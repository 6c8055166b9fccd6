"""The nearest change that would help where no wheel fits: looked up among the files that the index has."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import Version

from envforge.edges.fetch import Fetcher, local_path
from envforge.errors import EnvforgeError, InputError
from envforge.formats.simple_index import ListedFile, read_page
from envforge.model.platforms import PLATFORMS, Target, VirtualPackage, default_target
from envforge.resolvers.pypi.places import PYPI, Places
from envforge.resolvers.pypi.request import PypiRequest
from envforge.resolvers.pypi.target import wheel_tags

__all__ = ["Nearest", "listed_files", "nearest"]

_PAGE = 64 << 20

_GLIBC = ("2.17", "2.24", "2.26", "2.27", "2.28", "2.31", "2.34", "2.35", "2.36", "2.38", "2.39", "2.40")
_MACOS = ("11.0", "12.0", "13.0", "14.0", "15.0", "26.0")
_PYTHONS = tuple(f"3.{minor}" for minor in range(7, 16))


@dataclass(frozen=True, kw_only=True)
class Nearest:
    """What is there instead, as far as it is: each is what would have to change for a wheel to fit.

    ``glibc`` and ``macos`` are the lowest versions of the target that would do, ``pythons`` the versions X.Y
    of Python, ``version`` the newest version of the project that fits as it is, ``platforms`` those that have
    a wheel at all, and ``sdist`` whether there is a source distribution.
    """

    glibc: str | None = None
    macos: str | None = None
    pythons: tuple[str, ...] = ()
    version: str | None = None
    platforms: tuple[str, ...] = ()
    sdist: bool = False


def listed_files(fetcher: Fetcher, project: str, places: Places) -> tuple[ListedFile, ...]:
    """The files of ``project`` in the first index that has it; none where that cannot be read now."""
    own = places.pinned.get(project)
    for index in (own,) if own is not None else (places.indexes or (PYPI,)):
        page = f"{index.rstrip('/')}/{project}/"
        folder = local_path(page)
        with suppress(EnvforgeError, ValueError):
            url = page if folder is None else (folder / "index.html").as_uri()
            return read_page(fetcher.read(url, limit=_PAGE).decode("utf-8", "replace"))
    return ()


def nearest(files: Iterable[ListedFile], versions: str, request: PypiRequest) -> Nearest:
    """What would make one of ``files`` fit.

    :param versions: the specifier that is asked for.
    """
    wanted = _specifier(versions)
    wheels = list(_wheels(files))
    inside = [one for one in wheels if wanted.contains(one.version, prereleases=True)]
    fits = _Fits(request)
    older = [one.version for one in wheels if not one.version.is_prerelease and fits(one)]
    return Nearest(
        glibc=fits.lowest(inside, "__glibc", _GLIBC),
        macos=fits.lowest(inside, "__osx", _MACOS),
        pythons=tuple(python for python in _PYTHONS if any(map(_Fits(request, python=python), inside))),
        version=str(max(older)) if older and not any(map(fits, inside)) else None,
        platforms=tuple(
            platform for platform in PLATFORMS if any(map(_Fits(request, platform=platform), inside))
        ),
        sdist=any(wanted.contains(version, prereleases=True) for version in _sdists(files)),
    )


@dataclass(frozen=True, kw_only=True)
class _Wheel:
    version: Version
    tags: frozenset[object]
    requires_python: SpecifierSet


class _Fits:
    """Whether a wheel fits the request's target, with a change of it."""

    def __init__(
        self, request: PypiRequest, *, python: str | None = None, platform: str | None = None
    ) -> None:
        self.target = _with_newest(platform) if platform else request.target
        self.pythons = _PYTHONS if platform else (python or request.python_version,)
        self._tags = {one: frozenset(_tags(self.target, one)) for one in self.pythons}

    def __call__(self, wheel: _Wheel) -> bool:
        return any(
            wheel.requires_python.contains(f"{python}.99" if python.count(".") == 1 else python)
            and bool(tags & wheel.tags)
            for python, tags in self._tags.items()
        )

    def lowest(self, wheels: Sequence[_Wheel], name: str, versions: Sequence[str]) -> str | None:
        """The lowest version of the virtual package with which one of ``wheels`` fits, if it has one."""
        has = self.target.version(name)
        for version in versions if has is not None else ():
            if _numbers(version) > _numbers(has or "0"):
                changed = self.target.with_packages((VirtualPackage(name=name, version=version),))
                tags = frozenset(_tags(changed, self.pythons[0]))
                if any(
                    tags & wheel.tags and wheel.requires_python.contains(self.pythons[0]) for wheel in wheels
                ):
                    return version
        return None


def _tags(target: Target, python: str) -> Iterator[object]:
    try:
        yield from wheel_tags(target, python)
    except InputError:
        return


def _with_newest(platform: str) -> Target:
    target = default_target(platform)
    newest = {"__glibc": _GLIBC[-1], "__osx": _MACOS[-1]}
    return target.with_packages(
        tuple(replace(one, version=newest[one.name]) for one in target.virtual_packages if one.name in newest)
    )


def _wheels(files: Iterable[ListedFile]) -> Iterator[_Wheel]:
    for file in files:
        try:
            _, version, _, tags = parse_wheel_filename(file.filename)
        except InvalidWheelFilename:
            continue
        yield _Wheel(version=version, tags=tags, requires_python=_specifier(file.requires_python or ""))


def _sdists(files: Iterable[ListedFile]) -> Iterator[Version]:
    for file in files:
        try:
            yield parse_sdist_filename(file.filename)[1]
        except InvalidSdistFilename:
            continue


def _specifier(text: str) -> SpecifierSet:
    try:
        return SpecifierSet(text)
    except InvalidSpecifier:
        return SpecifierSet()


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdecimal())
