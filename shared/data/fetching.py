"""Files over HTTP: several at a time, gone on with where a connection broke, and held against what was published."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, Literal

import requests
from pydantic import Field
from tqdm import tqdm

from shared.config import RepoPath, Section
from shared.data.publishers import ALGORITHMS, RemoteFile
from shared.errors import UserError
from shared.files import digest

PART = ".part"
TIMEOUT_S = (30, 60)
"""To connect, and between two pieces of an answer."""
PIECE = 2**14
"""Bytes read at a time: what a broken connection costs."""
PASSING = {408, 425, 429, 500, 502, 503, 504}
"""HTTP answers that another attempt may change."""
BATCH = 4096
"""Files handed to the threads at a time: MIMIC-IV-ECG has 1.6 million."""


class DownloadConfig(Section):
    """What to fetch, from where to where."""

    publisher: Literal["physionet", "zenodo", "figshare"]
    name: str = Field(description="project/version, records/NUMBER, or collections/NUMBER")
    out: RepoPath = Field(description="folder of the database")
    base: str | None = Field(None, pattern=r"^https?://", description="a mirror in place of the publisher's host")
    only: tuple[str, ...] = Field((), description="patterns of paths, as records500/*; all where none is given")
    sums: tuple[str, ...] = Field((), description="PATH:DIGEST known beforehand; they count more than the publisher's")
    unpack: bool = Field(False, description="unpack zip and tar files beside themselves; they stay, for the next check")
    connections: int = Field(8, ge=1, le=32)
    attempts: int = Field(5, ge=1, description="for a file, in a row, without a byte gained")
    wait_s: float = Field(2.0, ge=0, description="before a second attempt; doubled before each further one")


class DownloadError(UserError):
    """A file cannot be had, or is not what was published."""


class AccessError(UserError):
    """The publisher asks for an account."""


class Stopped(Exception):
    """Another file failed in a way that ends the whole download."""


class Fetcher:
    """Connections of one download.

    Attributes:
        config: of the download.
        stop: set once the threads shall end.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self.config = config
        self.stop = threading.Event()
        self._own = threading.local()  # a session belongs to one thread
        self._sessions: list[requests.Session] = []

    def close(self) -> None:
        """Close all connections."""
        for session in self._sessions:
            session.close()

    def bring_all(self, files: Sequence[RemoteFile], outcome: dict[str, list[str]]) -> list[str]:
        """Bring every file; what failed, a line each."""
        failed = []
        sizes = [file.size for file in files]
        total = None if None in sizes else sum(size or 0 for size in sizes)
        with (
            ThreadPoolExecutor(self.config.connections) as pool,
            tqdm(total=total, unit="B", unit_scale=True, desc=self.config.name, disable=None) as bar,
        ):
            try:
                for first in range(0, len(files), BATCH):
                    jobs = {pool.submit(self.bring, file, bar): file for file in files[first : first + BATCH]}
                    for job in as_completed(jobs):
                        try:
                            outcome[job.result()].append(jobs[job].path)
                        except DownloadError as error:
                            failed.append(f"{jobs[job].path}: {error}")
            except BaseException:  # no room, no access, or Ctrl-C: what waits must not go on
                self.stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return sorted(failed)

    def bring(self, file: RemoteFile, bar: Any) -> str:
        """Have one file whole: `there` or `fetched`.

        Raises:
            DownloadError: it cannot be had, or is not what was published, twice.
            AccessError: not without an account, which ends the whole download.
        """
        path = self.config.out / file.path
        part = path.with_name(path.name + PART)
        # A list of checksums has none of its own: it is read anew, lest it be another release's.
        if path.is_file() and (file.digest or file.size is not None):
            why = difference(path, file)
            if why is None:
                bar.update(path.stat().st_size)
                return "there"
            tqdm.write(f"{path}: {why}; it is fetched again")
            path.unlink()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not file.digest and file.size is None:
            part.unlink(missing_ok=True)  # nothing would tell that its beginning is of another release
        for chance in ("it is fetched again", "it was fetched twice"):
            self._fetch(file, part, bar)
            why = difference(part, file)
            if why is None:
                os.replace(part, path)
                return "fetched"
            bar.update(-part.stat().st_size)
            part.unlink()
            tqdm.write(f"{file.path}: {why}; {chance}")
        raise DownloadError(f"{why}, twice; {file.url} holds another file than the publisher's list says")

    def page(self, url: str) -> requests.Response:
        """A short answer, whole.

        Raises:
            DownloadError: there is none.
            AccessError: not without an account.
        """

        def read() -> requests.Response:
            with self._open(url, {}) as answer:
                answer.encoding = "utf-8"  # else it is guessed, for minutes where the page is long
                answer.content  # noqa: B018 (reads it)
            return answer

        found: requests.Response = self._again(url, read)
        return found

    def _fetch(self, file: RemoteFile, part: Path, bar: Any) -> None:
        """Bytes of a file into its part, from where that ends."""
        bar.update(size_of(part))

        def go_on() -> None:
            have = size_of(part)
            with self._open(file.url, {"Range": f"bytes={have}-"} if have else {}) as answer:
                if answer.status_code == 416:
                    return  # nothing lies beyond what is there
                if answer.status_code != 206 and have:  # the whole file comes again
                    bar.update(-have)
                with part.open("ab" if answer.status_code == 206 else "wb") as out:
                    for block in answer.iter_content(PIECE):
                        if self.stop.is_set():
                            raise Stopped
                        out.write(block)
                        bar.update(len(block))

        self._again(file.url, go_on, part)
        part.touch()  # an empty file has no block

    def _again(self, url: str, act: Any, part: Path | None = None) -> Any:
        """Act until it succeeds, or `attempts` in a row brought nothing."""
        failures, reached = 0, size_of(part)
        while True:
            try:
                return act()
            except requests.RequestException as error:
                status = None if error.response is None else error.response.status_code
                if error.response is not None and status not in PASSING:
                    raise DownloadError(f"{url} answers {status} {error.response.reason}") from None
                failures, reached = (1 if size_of(part) > reached else failures + 1), size_of(part)
                if failures >= self.config.attempts:
                    what = f"{status}" if status else f"{type(error).__name__}: {str(error)[:160]}"
                    raise DownloadError(
                        f"{url} could not be read in {failures} attempts ({what}). Is the network, or HTTPS_PROXY, right?"
                    ) from None
            if self.stop.wait(min(60.0, self.config.wait_s * 2 ** (failures - 1))):
                raise Stopped

    def _open(self, url: str, headers: dict[str, str]) -> requests.Response:
        session = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = requests.Session()
            self._sessions.append(session)
        # Compressed on the way, the bytes of a range would not be those of the file.
        answer: requests.Response = session.get(
            url, headers={"Accept-Encoding": "identity", **headers}, stream=True, timeout=TIMEOUT_S
        )
        if answer.ok or answer.status_code == 416:
            return answer
        answer.close()
        if answer.status_code in (401, 403):
            host = url.split("/")[2]
            raise AccessError(
                f"{url} answers {answer.status_code}: {host} wants an account with access to {self.config.name}. Sign its terms "
                f"on the database's page, and put a line into ~/.netrc: machine {host} login NAME password PASSWORD"
            )
        raise requests.HTTPError(response=answer)


def difference(path: Path, file: RemoteFile) -> str | None:
    """How a file differs from what was published; None: not at all, as far as the publisher says."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size} bytes where {file.size} are published"
    if file.digest:
        algorithm = ALGORITHMS[len(file.digest)]
        found = digest(path, algorithm)
        if found != file.digest.lower():
            return f"its {algorithm} is {found[:12]}…, published is {file.digest[:12]}…"
    return None


def size_of(path: Path | None) -> int:
    """Bytes of a file; 0 where there is none."""
    return path.stat().st_size if path is not None and path.is_file() else 0
