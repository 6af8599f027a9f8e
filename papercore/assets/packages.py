"""Archives from package indexes, found and downloaded as pip is configured; none is installed or run. Floor: assets."""

import ast
import logging
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import NamedTuple

from papercore.assets.catalogue import Part, Source
from papercore.assets.errors import AssetUnavailable, said
from papercore.assets.progress import Report

NOWHERE = "pip is set to look nowhere: no-index, and no find-links"


class Place(NamedTuple):
    """One index, page or folder of archives: its role (an address may hold a token) and the finder that looks there."""

    name: str
    finder: "PackageFinder"  # noqa: F821  (unearth is imported on the first download only)
    answers: list[int]  # HTTP status of every answer so far

    def download(self, part: Part, folder: Path, report: Report) -> Iterator[Path]:
        """Each copy of the pinned archive that this place has, in `folder`, or where it lies if that is a local disk.

        Raises as `links` does, and whatever a checksum of the index's own raises.
        """

        def reporter(link, completed: int, total: int | None) -> None:
            report(completed / total if total else 0.0)

        for link in self.links(part):
            yield self.finder.download(link, folder, download_reporter=reporter)

    def links(self, part: Part) -> list["Link"]:  # noqa: F821
        """Where this place has the pinned archive; raises LookupError if nowhere, and whatever the network raises."""
        self.answers.clear()
        found = self.finder.find_matches(part.package)
        links = [package.link for package in found if package.link.is_wheel == (part.archive == "wheel")]
        if not links:
            refused = [status for status in self.answers if status >= 400 and status != 404]
            raise LookupError(f"it answers {refused[0]}" if refused else f"no such {part.archive} there")
        return links

    def silence(self, package: str) -> str:
        """Why this place gives no answer about a package, or nothing where it does: having it not is an answer."""
        folder = _folder(self.finder.sources[0]["url"])
        if folder is not None:
            return "" if folder.exists() else "there is no such folder"
        self.answers.clear()
        try:
            self.finder.find_matches(package)
        except Exception as error:  # networks and proxies each fail in their own way
            return said(error)
        if not self.answers:
            return "its host is not trusted: it has no https, and is not among pip's trusted-host"
        return "" if self.answers[-1] in (200, 404) else f"it answers {self.answers[-1]}"


def silences(package: str) -> list[tuple[str, str]]:
    """Each place of pip's by its role, and why it does not answer about `package`, or nothing where it does."""
    try:
        with places(timeout=5) as found:
            return [(place.name, place.silence(package)) for place in found]
    except AssetUnavailable as error:
        return [("pip's settings", str(error))]


def refusals(sources: Iterable[Source]) -> str:
    """Why no place of pip's offers any of the sources, by the first archive of each, or nothing where one does."""
    problems = []
    try:
        with places(timeout=5) as found:
            for place, source in product(found, sources):
                try:
                    place.links(source[0])
                    return ""
                except Exception as error:
                    problems.append(f"{place.name}: {said(error)}")
    except AssetUnavailable as error:
        problems.append(str(error))
    return ", ".join(problems) or NOWHERE


def pip_settings() -> dict[str, str]:
    """pip's options from its files and from PIP_*, by name; weaker settings are overwritten by stronger ones."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    lines = re.findall(r"^(global|install)\.([\w-]+)=(.*)$", listed, re.MULTILINE)
    settings = {option: ast.literal_eval(value) for _, option, value in sorted(lines, key=lambda line: line[0])}
    # The environment directly: a venv may have no pip to ask.
    environment = {k[4:].lower().replace("_", "-"): v for k, v in os.environ.items() if k.startswith("PIP_")}
    return settings | {option: value for option, value in environment.items() if value}


@contextmanager
def places(timeout: float | None = None) -> Iterator[list[Place]]:
    """Every place pip would look in: links first, then the index, then the extra ones; apart, so that one may fail.

    `timeout` in seconds; pip's own where it is None.
    """
    from unearth import PackageFinder
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers import PyPIClient

    logging.getLogger("unearth").addHandler(logging.NullHandler())  # we say ourselves what failed
    settings = pip_settings()
    links = [os.path.expanduser(link) for link in settings.get("find-links", "").split()]
    indexes = []
    if settings.get("no-index", "").lower() not in ("1", "true", "yes", "on", "y", "t"):
        # A finder without any address looks in the default index.
        indexes = [settings.get("index-url"), *settings.get("extra-index-url", "").split()]
    answers: list[int] = []
    with PyPIClient(
        trusted_hosts=settings.get("trusted-host", "").split(),
        verify=_certificates(settings),
        proxy=settings.get("proxy"),
        timeout=timeout or float(settings.get("timeout") or settings.get("default-timeout") or 15),
        follow_redirects=True,
        event_hooks={"response": [lambda response: answers.append(response.status_code)]},
    ) as client:
        client.auth = MultiDomainBasicAuth(prompting=False, index_urls=[url for url in [*indexes, *links] if url])

        def place(name: str, url: str | None, kind: str) -> Place:
            finder = PackageFinder(session=client, ignore_compatibility=True, **({kind: [url]} if url else {}))
            return Place(name, finder, answers)

        found = [place(f"find-links {n}", url, "find_links") for n, url in enumerate(links, 1)]
        for n, url in enumerate(indexes):
            found.append(place(f"extra index {n}" if n else "the package index", url, "index_urls"))
        yield found


def _folder(url: str) -> Path | None:
    """The local path that a place of pip's names, or None where it is on the network."""
    from unearth import Link

    if "://" not in url:
        return Path(url)
    link = Link(url)
    return link.file_path if link.is_file else None


def _certificates(settings: dict[str, str]) -> ssl.SSLContext | bool:
    bundle = settings.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE")
    if not bundle:
        return True
    try:
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        why = f"pip's cert {bundle} cannot be read ({error}): set it to a file of certificates"
        raise AssetUnavailable(why) from None
