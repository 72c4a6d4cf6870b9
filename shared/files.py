"""Folders that are whole or absent: written beside their place with digests, synced, and renamed into it; one writer each."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from shared.errors import UserError

BLOCK = 2**20
DIGESTS = "digests.json"
LOCK_SECONDS = 1.0
"""How long a lock is waited for: `is_held` takes it for a moment."""


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the only process that writes a folder, by a lock file beside it that the system takes back from a dead process.

    The lock is `flock`'s, which NFS knows since Linux 2.6.12.

    Raises:
        UserError: another process holds it, or there is no place for the lock.
    """
    from filelock import FileLock, Timeout

    path = _lock_of(folder)
    lock = FileLock(path, timeout=LOCK_SECONDS, thread_local=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder} is being written by {path.read_text() or 'another process'}. Wait for its end, or give another folder."
        ) from None
    except OSError as error:
        raise UserError(f"{folder} cannot be written: {error}. Give another folder.") from None
    try:
        with suppress(OSError):  # who holds it is for the message of others only
            path.write_text(f"process {os.getpid()} on {socket.gethostname()}")
        yield
    finally:
        path.unlink(missing_ok=True)  # one who opened it before sees that it is gone, and takes a new one
        lock.release()


def is_held(folder: Path) -> bool:
    """Whether some process writes a folder now."""
    from filelock import FileLock, Timeout

    path = _lock_of(folder)
    if not path.is_file():
        return False
    try:
        with FileLock(path, timeout=0, thread_local=False):
            return False
    except Timeout:
        return True


def walk_links(root: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """Folder, names of folders and of files at and below `root`, as `os.walk`; links are followed, into each folder once.

    Taking names out of the list of folders keeps the walk out of them.
    """
    seen: set[Path] = set()
    for path, folders, files in os.walk(root, followlinks=True):
        whole = Path(path).resolve()
        if whole in seen:
            folders.clear()
            continue
        seen.add(whole)
        folders.sort()
        yield Path(path), folders, files


def _lock_of(folder: Path) -> Path:
    whole = folder.resolve()  # one lock, by whatever name the folder is reached
    return whole.with_name(f".{whole.name}.lock")


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder whole, with the digests of its files; one of this name is replaced, and one of both is there at any moment.

    Args:
        folder: its final name.
        write: puts the files into the folder it is given.

    Raises:
        OSError: it could not be written; what was there before is untouched, and nothing is left beside it.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        write(partial)
        digests = {path.name: digest(path) for path in sorted(partial.iterdir())}
        (partial / DIGESTS).write_text(json.dumps(digests))
        replace_folder(partial, folder)
    except Exception as error:
        shutil.rmtree(partial, ignore_errors=True)
        text = str(error)
        if not isinstance(error, OSError) and any(sign in text for sign in UNWRITTEN):
            raise OSError(errno.ENOSPC, f"no room, it seems: {text.splitlines()[0]}", str(folder)) from error
        raise


UNWRITTEN = ("inline_container", "PytorchStreamWriter", "I/O error")
"""How torch and safetensors say that a file could not be written, in errors of their own."""


def damage(folder: Path, needed: str, only: bool = False) -> str | None:
    """What is wrong with such a folder: a file that is missing or has other bytes than were written; None: nothing.

    Args:
        folder: written by `write_folder`, or before there were digests.
        needed: a file that must be there in any case.
        only: look at that file alone.
    """
    if not (folder / DIGESTS).is_file():
        return None if (folder / needed).is_file() else f"{needed} is missing"
    try:
        written = json.loads((folder / DIGESTS).read_text())
    except ValueError:
        return f"{DIGESTS} cannot be read"
    for name, expected in written.items():
        if only and name != needed:
            continue
        if not (folder / name).is_file():
            return f"{name} is missing"
        if digest(folder / name) != expected:
            return f"{name} has other bytes than were written"
    return None


def clean_up(parent: Path, name: str = "*") -> None:
    """Put right what a killed process left beside such folders: unfinished ones go, one moved aside comes back.

    Args:
        parent: where they are; nobody else may be writing them.
        name: of the folder that is looked after; `*`: of all.
    """
    for left in sorted(parent.glob(".*")):
        found = LEFT.fullmatch(left.name)
        if found is None or name not in ("*", found["name"]):
            continue
        folder = parent / found["name"]
        if found["what"] == "partial":
            shutil.rmtree(left, ignore_errors=True)
            print(f"removed {left}, which a killed process had not finished")
        elif folder.exists():
            shutil.rmtree(left, ignore_errors=True)
            print(f"removed {left}, in whose place a newer one stands")
        else:
            os.replace(left, folder)
            print(f"brought back {folder}, which a killed process had moved aside")


LEFT = re.compile(r"\.(?P<name>.+)\.(?P<what>partial|old)(-\d+)?")
"""Names beside a folder; with a process's number as stores had it before there were locks."""


def keep_lines_until(path: Path, step: int) -> None:
    """Drop from a log of JSON lines what comes after a step, and half a line at its end."""
    kept = []
    for line in path.read_text(errors="replace").splitlines():
        with suppress(ValueError, KeyError, TypeError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text("".join(kept))
    os.replace(partial, path)


def replace_folder(partial: Path, folder: Path) -> None:
    """Give a whole folder its name. One that has the name is moved aside first, so that at any moment one of the two is there."""
    sync(partial)
    aside = move_aside(folder)
    try:
        os.replace(partial, folder)
    except OSError:
        if aside.exists():
            os.replace(aside, folder)
        raise
    sync(folder.parent, files=False)
    shutil.rmtree(aside, ignore_errors=True)


def move_aside(folder: Path) -> Path:
    """Rename a folder, if it is there, to where it waits while another takes its name; `clean_up` would bring it back."""
    aside = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        os.replace(folder, aside)
    return aside


def sync(folder: Path, files: bool = True) -> None:
    """Make sure that a folder, and the files in it, are on the disk."""
    for path in [*(p for p in folder.iterdir() if files and p.is_file()), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def digest(path: Path, algorithm: str | None = None) -> str:
    """Hex digest of a file's bytes, by the algorithm of this name; None: BLAKE2b of 16 bytes, this project's own."""
    found = hashlib.blake2b(digest_size=16) if algorithm is None else hashlib.new(algorithm)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()
