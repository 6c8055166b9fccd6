"""Images: what a built file is, what it starts from, and where in it an environment can be."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from envforge.errors import InputError
from envforge.model.urls import redacted

__all__ = [
    "GPU_VARIABLES",
    "KINDS",
    "LAYERED",
    "BaseImage",
    "ImageFacts",
    "ImageKind",
    "check_image_prefix",
    "check_registry",
    "image_machine",
]

GPU_VARIABLES = {"NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility"}
"""What asks the hooks of NVIDIA, in docker, podman, enroot and pyxis, for the driver of the machine."""

ImageKind = str
"""What a file or directory is, by its content: one of :data:`KINDS`."""

LAYERED = ("oci-archive", "docker-archive", "oci")
KINDS = (*LAYERED, "squashfs", "sif")
"""The kinds of images; ``oci`` is a layout in a directory, the others are files.  :data:`LAYERED` are made of
layers."""

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]+)?"
_PART = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_IMAGE = re.compile(rf"((?:{_HOST}/)?{_PART}(?:/{_PART})*)(?::(\w[\w.-]{{0,127}}))?(?:@(.*))?", re.ASCII)
_REGISTRY = re.compile(rf"{_HOST}(?:/{_PART})*", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9_+@=][A-Za-z0-9._+@=-]*)+")
# Mounted over when an image runs, made by the kernel, or used by the build itself.
_TAKEN = (
    ("dev", "envforge", "home", "proc", "root", "run", "sys", "tmp", "var/tmp")
    + ("opt/udiImage", "var/udiMount")  # Shifter's
)
_MACHINES = {"linux-64": "amd64", "linux-aarch64": "arm64", "linux-ppc64le": "ppc64le"}


@dataclass(frozen=True, kw_only=True)
class ImageFacts:
    """What an image that envforge made says of itself.

    ``kind`` is ``environment`` for the content of a prefix alone, which is mounted there, and ``root`` for a
    whole root file system with the environment at ``prefix`` in it.  ``lock`` is the digest of the lock,
    ``receipt`` the sha256 of the receipt inside, ``version`` the envforge that made it.  A recipe is printed
    before there is a receipt, and may be for several platforms: what it cannot know is empty.
    """

    kind: str
    prefix: str
    platform: str
    name: str
    lock: str
    receipt: str
    version: str

    def labels(self) -> dict[str, str]:
        """The labels that say this in an OCI image, and in what is made of it."""
        labels = {
            "org.opencontainers.image.title": self.name,
            "org.envforge.version": self.version,
            "org.envforge.prefix": self.prefix,
            "org.envforge.platform": self.platform,
            "org.envforge.lock": f"sha256:{self.lock}",
            "org.envforge.receipt": f"sha256:{self.receipt}" if self.receipt else "",
        }
        return {key: value for key, value in labels.items() if value}

    @classmethod
    def of_labels(cls, labels: Mapping[str, str]) -> ImageFacts | None:
        """What the labels of an image say; ``None`` if envforge did not make it.

        :raises InputError: if they say it in no form that envforge writes.
        """
        if "org.envforge.lock" not in labels:
            return None
        prefix, lock, receipt = (
            labels.get(f"org.envforge.{key}", "") for key in ("prefix", "lock", "receipt")
        )
        if not _DIGEST.fullmatch(lock) or not (receipt == "" or _DIGEST.fullmatch(receipt)):
            raise InputError(
                "a label of the image is no digest", at="org.envforge.lock, org.envforge.receipt"
            )
        return cls(
            kind="root",
            prefix=check_image_prefix(prefix),
            platform=labels.get("org.envforge.platform", ""),
            name=labels.get("org.opencontainers.image.title", ""),
            lock=lock.removeprefix("sha256:"),
            receipt=receipt.removeprefix("sha256:"),
            version=labels.get("org.envforge.version", ""),
        )


@dataclass(frozen=True, kw_only=True)
class BaseImage:
    """What an image starts from: an agent and what it takes.

    ``tag`` is only remembered: of two names for one image the digest is the one that stays.
    """

    agent: str
    reference: str
    tag: str = ""

    @classmethod
    def parse(cls, text: str | None, agents: Sequence[str]) -> BaseImage:
        """Read ``docker:NAME@sha256:…``, or ``AGENT:PATH`` with one of ``agents``.

        :raises InputError: for another form, for a docker image without digest, and for an archive whose
            path has a colon in it.
        """
        forms = " | ".join(["--base docker:NAME@sha256:HEX", *(f"--base {name}:PATH" for name in agents)])
        if not text:
            raise InputError("no base image was named", at="--base", do=forms)
        agent, _, rest = text.partition(":")
        if agent == "docker":
            return cls._docker(rest.removeprefix("//"), forms)
        if agent not in agents or not rest:
            raise InputError(f"{redacted(text)!r} is no base image", at="--base", do=forms)
        if agent.endswith("-archive") and ":" in rest:
            raise InputError(
                "an archive is named by its path alone, without a tag and without a colon in it",
                at=f"--base {text}",
                do=f"--base {agent}:PATH   # rename the file where its name has a colon",
            )
        return cls(agent=agent, reference=rest)

    @classmethod
    def _docker(cls, image: str, forms: str) -> BaseImage:
        match = _IMAGE.fullmatch(image)
        if match is None:
            raise InputError(f"{image!r} is no name of a docker image", at="--base", do=forms)
        name, tag, digest = match.groups()
        if digest is None:
            named = f"{name}:{tag or 'latest'}"
            raise InputError(
                f"{named} may be another image tomorrow: a base is named by its digest",
                at=f"--base docker:{image}",
                do=f"skopeo inspect --format '{{{{.Digest}}}}' docker://{named}   "
                f"# then --base docker:{name}@sha256:…",
            )
        if not _DIGEST.fullmatch(digest):
            raise InputError(
                f"{digest!r} is no digest",
                at=f"--base docker:{image}",
                do=f"--base docker:{name}@sha256:HEX   # 64 hex digits in lower case",
            )
        return cls(agent="docker", reference=f"{name}@{digest}", tag=tag or "")

    @property
    def name(self) -> str:
        """The name of a docker image without its digest."""
        return self.reference.partition("@")[0]

    @property
    def digest(self) -> str:
        """The digest of a docker image, ``sha256:HEX``; empty for a path."""
        return self.reference.partition("@")[2] if self.agent == "docker" else ""

    def __str__(self) -> str:
        return f"{self.agent}:{self.reference}"


def check_image_prefix(prefix: str) -> str:
    """Return ``prefix`` if it is a path at which an environment can stay in an image.

    :raises InputError: if it is not absolute, not plain, or at a place that something else is mounted on.
    """
    if not _PREFIX.fullmatch(prefix) or posixpath.normpath(prefix) != prefix:
        raise InputError(
            f"{prefix!r} cannot be a prefix in an image",
            at="--prefix",
            do="--prefix /opt/env   # absolute; letters, digits and ._+@=- only",
        )
    for taken in _TAKEN:
        if f"{prefix}/".startswith(f"/{taken}/"):
            raise InputError(
                f"/{taken} in an image belongs to the machine that it runs on, or to the build",
                at=f"--prefix {prefix}",
                do="--prefix /opt/env",
            )
    return prefix


def check_registry(text: str) -> str:
    """Return ``text`` without a slash at its end, if it can be ``HOST[:PORT][/PATH]`` of a registry.

    :raises InputError: if it cannot.
    """
    place = text.removeprefix("docker://").rstrip("/")
    if not _REGISTRY.fullmatch(place):
        raise InputError(
            f"{redacted(text)!r} is no registry", at="--registry", do="--registry registry.example.org/me"
        )
    return place


def image_machine(platform: str) -> str:
    """What images call the machine of a Linux platform: ``amd64``.

    :raises InputError: for a platform that images are not made for.
    """
    if platform not in _MACHINES:
        raise InputError(
            f"no image can be made for {platform}",
            at="-p",
            do=f"name one of: {', '.join(_MACHINES)}   # images run Linux",
        )
    return _MACHINES[platform]
