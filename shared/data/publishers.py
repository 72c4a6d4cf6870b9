"""What a publisher says that a database consists of: every file with its address and, where one is given, its digest and size.

PhysioNet lists a project's files in `SHA256SUMS.txt`; Zenodo and figshare list theirs, with MD5 and bytes, through their
public interfaces (developers.zenodo.org, docs.figshare.com).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

from shared.errors import UserError

SUMS = "SHA256SUMS.txt"
SUM_LINE = re.compile(r"\\?([0-9a-fA-F]{32}|[0-9a-fA-F]{64})[ \t]+[ *]?(\S.*)")
"""A digest and the file it is of, as `sha256sum` and `md5sum` write them."""
ALGORITHMS = {32: "md5", 64: "sha256"}
"""Hex digits of a digest → what it was made with."""

Fetch = Callable[[str], Any]
"""Address → the answer, which has `.text` and `.json()`."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of a database.

    Attributes:
        path: below the database's folder.
        url: its address.
        digest: hex digits of its MD5 or SHA-256; empty where the publisher gives none.
        size: bytes; None where it is not said.
    """

    path: str
    url: str
    digest: str = ""
    size: int | None = None


def parse_sums(text: str) -> dict[str, str]:
    """Path → digest, of a list of checksums; lines that are none are passed over."""
    found = (SUM_LINE.fullmatch(line.rstrip()) for line in text.splitlines())
    return {match[2].removeprefix("./"): match[1].lower() for match in found if match}


def list_physionet(name: str, base: str | None, fetch: Fetch) -> list[RemoteFile]:
    """The files of a project, `ptb-xl/1.0.3`, and their list of checksums itself."""
    root = moved(f"https://physionet.org/files/{name.strip('/')}/", base)
    sums = parse_sums(fetch(root + SUMS).text)
    if not sums:
        raise UserError(f"{root}{SUMS} names no file: it is no list of checksums.")
    files = [RemoteFile(path, root + quote(path), digest) for path, digest in sums.items() if path != SUMS]
    return [RemoteFile(SUMS, root + SUMS), *files]


def list_zenodo(name: str, base: str | None, fetch: Fetch) -> list[RemoteFile]:
    """The files of a record, `records/4916206`."""
    root = moved("https://zenodo.org", base)
    answer = fetch(f"{root}/api/{name}").json()
    # A number that stands for all versions answers with the newest, whose own number is in the answer.
    files = f"{root}/records/{answer['id']}/files"
    return [
        RemoteFile(
            file["key"],
            f"{files}/{quote(file['key'])}?download=1",
            str(file.get("checksum", "")).removeprefix("md5:"),
            file.get("size"),
        )
        for file in answer["files"]
    ]


def list_figshare(name: str, base: str | None, fetch: Fetch) -> list[RemoteFile]:
    """The files of every article of a collection, `collections/5779802`, or of one, `articles/123`."""
    root = moved("https://api.figshare.com/v2", base)
    articles = [name]
    if name.startswith("collections/"):
        articles = [f"articles/{item['id']}" for item in fetch(f"{root}/{name}/articles?page_size=1000").json()]
    return [
        RemoteFile(
            file["name"],
            moved(file["download_url"], base),
            file.get("computed_md5") or file.get("supplied_md5") or "",
            file.get("size"),
        )
        for article in articles
        for file in fetch(f"{root}/{article}/files?page_size=1000").json()
        if not file.get("is_link_only")
    ]


PUBLISHERS: Mapping[str, Callable[[str, str | None, Fetch], list[RemoteFile]]] = {
    "physionet": list_physionet,
    "zenodo": list_zenodo,
    "figshare": list_figshare,
}


def list_files(publisher: str, name: str, base: str | None, fetch: Fetch) -> list[RemoteFile]:
    """All files of a database, by path.

    Args:
        publisher: a key of `PUBLISHERS`.
        name: what the publisher calls the database.
        base: a mirror in place of the publisher's host.
        fetch: gets a page.

    Raises:
        UserError: the answer is not what the publisher's interface says, or a path would leave the database's folder.
    """
    try:
        files = PUBLISHERS[publisher](name, base, fetch)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{publisher} gave no list of the files of {name} ({type(error).__name__}: {error}). Its interface may have "
            "changed: fetch the files by hand, and check them with scripts/doctor.sh."
        ) from None
    for file in files:
        path = PurePosixPath(file.path)
        if path.is_absolute() or ".." in path.parts or "\\" in file.path or not path.parts:
            raise UserError(
                f"{publisher} lists a file {file.path!r}, which would lie outside the folder. Nothing was fetched."
            )
    return sorted(files, key=lambda file: file.path)


def moved(url: str, base: str | None) -> str:
    """An address on a mirror: all after the host stays."""
    if base is None:
        return url
    parts = urlsplit(url)
    return base.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")
