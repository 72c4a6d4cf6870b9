"""Fetch a public database: what is missing or damaged, in parallel, resumed where it broke off, checked against its digests.

    python -m shared.data.download publisher=physionet name=ptb-xl/1.0.3 out=data/raw/ptb-xl [only=records500/*,*.csv]

A file has its name once it is whole; until then it is `NAME.part`, which the next call goes on with. A publisher who asks for
an account finds it in ~/.netrc (`machine physionet.org login … password …`), as curl and wget do.
"""

from __future__ import annotations

import shutil
import tarfile
import time
import zipfile
from collections.abc import Sequence
from contextlib import closing
from fnmatch import fnmatchcase
from pathlib import Path

from shared.config import config_from_cli, entry_point
from shared.data.fetching import PART, DownloadConfig, DownloadError, Fetcher, size_of
from shared.data.publishers import ALGORITHMS, RemoteFile, list_files
from shared.files import hold

SHOWN = 8
"""Files that are named of a kind; of the rest, the number."""


def download(config: DownloadConfig) -> dict[str, list[str]]:
    """Bring a folder to what the publisher lists.

    Returns:
        Paths that were `there` already, and those `fetched` now.

    Raises:
        DownloadError: files that could not be had, after all others were; or no listing, no room.
        UserError: no access, or another process downloads to the same folder.
    """
    with hold(config.out), closing(Fetcher(config)) as fetcher:
        files = wanted(config, list_files(config.publisher, config.name, config.base, fetcher.page))
        _require_room(config.out, files)
        outcome: dict[str, list[str]] = {"there": [], "fetched": []}
        failed = fetcher.bring_all(files, outcome)
        if failed:
            rest = f"\n  … {len(failed) - SHOWN} more" if len(failed) > SHOWN else ""
            raise DownloadError(
                f"{len(failed)} of {len(files)} files could not be had:\n  " + "\n  ".join(failed[:SHOWN]) + rest + "\n"
                "The others are whole. Call it again for the rest, or give a mirror: base=https://…"
            )
        if config.publisher != "physionet":  # which has such a list among its files
            sums = "".join(f"{file.digest}  {file.path}\n" for file in files if len(file.digest) == 32)
            (config.out / "MD5SUMS").write_text(sums)
        if config.unpack:
            for file in files:
                unpack(config.out / file.path)
    return outcome


def wanted(config: DownloadConfig, files: Sequence[RemoteFile]) -> list[RemoteFile]:
    """Those that `only` names, with the digests that were known beforehand.

    Raises:
        DownloadError: none is, or a digest is of no file.
    """
    known = dict(entry.rpartition(":")[::2] for entry in config.sums)
    strange = [f"{path}:{digest}" for path, digest in known.items() if len(digest) not in ALGORITHMS]
    strange += [path for path in known if path not in {file.path for file in files}]
    if strange:
        raise DownloadError(
            f"sums: {strange[0]} is no digest of a file that {config.publisher} lists for {config.name}."
        )
    chosen = [
        RemoteFile(file.path, file.url, known.get(file.path, file.digest), file.size)
        for file in files
        if not config.only or any(fnmatchcase(file.path, pattern) for pattern in config.only)
    ]
    if not chosen:
        some = ", ".join(file.path for file in files[:3])
        raise DownloadError(
            f"only={','.join(config.only)} names none of the {len(files)} files; they are called {some} …"
        )
    return chosen


def unpack(path: Path) -> None:
    """Unpack an archive beside itself, but what of it is there at its full size; anything else is left alone.

    Raises:
        DownloadError: it is damaged, or a name in it leads out of the folder.
    """
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir() and size_of(path.parent / entry.filename) != entry.file_size:
                        archive.extract(entry, path.parent)
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isfile() and size_of(path.parent / member.name) != member.size:
                        tar.extract(member, path.parent, filter="data")
    except (zipfile.BadZipFile, tarfile.TarError) as error:
        raise DownloadError(f"{path} cannot be unpacked: {error}. Delete it and call this again.") from None


def _require_room(out: Path, files: Sequence[RemoteFile]) -> None:
    """Refuse what certainly does not fit; sizes that are not published count as nothing."""
    missing = sum(
        file.size - size_of(out / f"{file.path}{PART}")
        for file in files
        if file.size is not None and not (out / file.path).is_file()
    )
    free = shutil.disk_usage(out.parent).free  # `hold` made it
    if missing > free:
        raise DownloadError(
            f"{out}: {missing / 1e9:.1f} GB are to come, {free / 1e9:.1f} GB are free. Give another `out`."
        )


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(DownloadConfig, argv)
    started = time.perf_counter()
    outcome = download(config)
    paths = outcome["there"] + outcome["fetched"]
    size = sum((config.out / path).stat().st_size for path in paths) / 1e9
    print(
        f"{config.out} is whole: {len(paths)} files, {size:.2f} GB; {len(outcome['fetched'])} fetched in "
        f"{time.perf_counter() - started:.0f} s, {len(outcome['there'])} were there."
    )


if __name__ == "__main__":
    entry_point(main)
