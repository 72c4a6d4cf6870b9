"""Folders that are whole or absent: written beside their place with digests, synced, and renamed into it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

BLOCK = 2**20
DIGESTS = "digests.json"


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder whole, with the digests of its files; one of this name is replaced, and one of both is there at any moment.

    Args:
        folder: its final name.
        write: puts the files into the folder it is given.
    """
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial)
    digests = {path.name: digest(path) for path in sorted(partial.iterdir())}
    (partial / DIGESTS).write_text(json.dumps(digests))
    replace_folder(partial, folder)


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


def clean_up(parent: Path) -> None:
    """Put right what a killed process left in a folder of such folders: unfinished ones go, one moved aside comes back."""
    for left in parent.glob(".*"):
        name = left.name[1:]
        if name.endswith(".partial"):
            shutil.rmtree(left, ignore_errors=True)
            print(f"removed {left}, which a killed process had not finished")
        elif name.endswith(".old") and restore_aside(left.with_name(name.removesuffix(".old"))):
            print(f"brought back {name.removesuffix('.old')}, which a killed process had moved aside")


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
    aside = aside_of(folder)
    shutil.rmtree(aside, ignore_errors=True)
    if folder.exists():
        os.replace(folder, aside)
    os.replace(partial, folder)
    sync(folder.parent, files=False)
    shutil.rmtree(aside, ignore_errors=True)


def aside_of(folder: Path) -> Path:
    """Where a folder waits while another takes its name."""
    return folder.with_name(f".{folder.name}.old")


def restore_aside(folder: Path) -> bool:
    """Bring back a folder that was moved aside by a process that died before it put another in its place; whether it did."""
    aside = aside_of(folder)
    if not aside.is_dir():
        return False
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        return False
    os.replace(aside, folder)
    return True


def sync(folder: Path, files: bool = True) -> None:
    """Make sure that a folder, and the files in it, are on the disk."""
    for path in [*(p for p in folder.iterdir() if files and p.is_file()), folder]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def digest(path: Path) -> str:
    """Fingerprint of a file's bytes."""
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            found.update(block)
    return found.hexdigest()
