"""Whether a download is whole: what RECORDS names is there, files are as long as their headers say, digests are the publisher's."""

from __future__ import annotations

import os
import random
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

from tqdm import tqdm

from shared.data.fetching import PART
from shared.data.publishers import ALGORITHMS, parse_sums
from shared.files import digest, walk_links

SHOWN = 8
"""Files that are named of a kind; of the rest, the number."""
SUM_FILES = ("SHA256SUMS.txt", "SHA256SUMS", "MD5SUMS", "MD5SUMS.txt")
SAMPLED = 200
"""Files of which `checksums=sample` takes the digest."""
THREADS = 8
BITS = {"8": 8, "80": 8, "16": 16, "61": 16, "160": 16, "24": 24, "32": 32, "212": 12}
"""WFDB format → bits a sample takes in the file (signal(5) of the WFDB manual); those that are packed otherwise are not checked."""
SIGNAL_LINE = re.compile(r"(\S+)[ \t]+(\d+)(?:x(\d+))?(?::\d+)?(?:\+(\d+))?(?:\s.*)?")
"""File, format, samples per frame, and bytes before the first sample."""


@dataclass(frozen=True)
class Finding:
    """One line of what was found, and what to do about it.

    Attributes:
        level: `WRONG` makes the doctor end with 1.
        text: what is so.
        do: what to do; empty where nothing is to be done.
    """

    level: Literal["ok", "note", "WRONG"]
    text: str
    do: str = ""


@dataclass(frozen=True)
class Tree:
    """What lies below a folder.

    Attributes:
        root: the folder.
        files: every file, below root.
        folders: every folder, likewise.
        closed: folders and files that may not be read.
    """

    root: Path
    files: frozenset[str]
    folders: frozenset[str]
    closed: tuple[str, ...]

    @property
    def headers(self) -> list[str]:
        """Its WFDB headers, in order."""
        return sorted(name for name in self.files if name.endswith(".hea"))

    def absent(self, name: str) -> str:
        """The highest folder of a missing file that is missing itself; else the file."""
        for folder in reversed(PurePosixPath(name).parents[:-1] if "/" in name else ()):
            if folder.as_posix() not in self.folders:
                return f"{folder}/"
        return name


def read_tree(root: Path) -> Tree:
    """Every file below a folder; links are followed."""
    files: list[str] = []
    inside: list[str] = []
    closed: list[str] = []
    for path, folders, names in walk_links(root):
        files += [(path / name).relative_to(root).as_posix() for name in names]
        closed += [str(path / name) for name in names if not os.access(path / name, os.R_OK)]
        inside += [(path / name).relative_to(root).as_posix() for name in folders]
        closed += [str(path / name) for name in folders if not os.access(path / name, os.R_OK | os.X_OK)]
    return Tree(root, frozenset(files), frozenset(inside), tuple(closed))


def check_records(tree: Tree) -> tuple[set[str], int]:
    """Headers that a RECORDS names and that are missing, and how many it names; a line `training/georgia/g1/` is a folder's.

    Folders' own RECORDS name their records, as in the challenges.
    """
    missing: set[str] = set()
    named = 0
    for listing in sorted(name for name in tree.files if PurePosixPath(name).name == "RECORDS"):
        folder = PurePosixPath(listing).parent
        for line in (tree.root / listing).read_text(errors="replace").splitlines():
            path = (folder / line.strip()).as_posix()
            if not line.strip() or line.strip().endswith("/") or path in tree.folders:
                continue
            named += 1
            header = path if path.endswith(".hea") else f"{path}.hea"
            if header not in tree.files:
                missing.add(header)
    return missing, named


def check_headers(tree: Tree) -> tuple[set[str], dict[str, str]]:
    """Signal files that a header names and that are missing; and files that are damaged, each with why."""
    missing: set[str] = set()
    damaged: dict[str, str] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        headers = tree.headers
        found = pool.map(lambda name: check_header(tree, name), headers)
        for absent, wrong in tqdm(found, total=len(headers), desc="headers", disable=None):
            missing |= absent
            damaged |= wrong
    return missing, damaged


def check_header(tree: Tree, header: str) -> tuple[set[str], dict[str, str]]:
    """The same of one header."""
    try:
        wanted = bytes_wanted((tree.root / header).read_text(errors="replace"))
    except OSError as error:
        return set(), {header: f"cannot be read: {error.strerror}"}
    except ValueError as error:
        return set(), {header: f"is no WFDB header: {error}"}
    missing, damaged = set(), {}
    for file, size in wanted.items():
        name = (PurePosixPath(header).parent / file).as_posix()
        if name not in tree.files:
            missing.add(name)
        elif size is not None and (there := (tree.root / name).stat().st_size) < size:
            damaged[name] = f"is truncated: {there} bytes where its header says {size}"
    return missing, damaged


def bytes_wanted(text: str) -> dict[str, int | None]:
    """Files that a WFDB header names, and how long each must be; None where its format does not say.

    Raises:
        ValueError: it is no header.
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    first = lines[0].split() if lines else []
    if len(first) < 2 or not first[1].isdigit():
        raise ValueError("its first line does not say how many signals there are" if lines else "it is empty")
    if "/" in first[0]:  # a list of segments, each with a header of its own
        return {}
    num, length = int(first[1]), int(first[3]) if len(first) > 3 and first[3].isdigit() else 0
    if len(lines) - 1 < num:
        raise ValueError(f"{num} signals, but {len(lines) - 1} lines that describe one")
    frames: Counter[str] = Counter()
    known: dict[str, tuple[int, int] | None] = {}
    for line in lines[1 : 1 + num]:
        match = SIGNAL_LINE.fullmatch(line.strip())
        if match is None:
            raise ValueError(f"{line[:60]!r} describes no signal")
        file, code, per_frame, offset = match.groups()
        frames[file] += int(per_frame or 1)
        known[file] = (BITS[code], int(offset or 0)) if code in BITS and length else None
    sizes = {
        file: None if how is None else -(-frames[file] * length * how[0] // 8) + how[1] for file, how in known.items()
    }
    sizes.pop("~", None)  # a signal without a file
    return sizes


def check_sums(
    tree: Tree, mode: Literal["true", "false", "sample"], seen: set[str]
) -> tuple[set[str], dict[str, str], str]:
    """Hold files against the publisher's lists of digests.

    Args:
        tree: the download.
        mode: every file, none, or some drawn with a fixed seed.
        seen: files that something is known to be wrong with.

    Returns:
        `(missing, damaged, said)`: files that a list names; and one line on what was checked.
    """
    sums: dict[str, str] = {}
    for listing in sorted(name for name in tree.files if PurePosixPath(name).name in SUM_FILES):
        folder = PurePosixPath(listing).parent
        text = (tree.root / listing).read_text(errors="replace")
        sums |= {(folder / path).as_posix(): digest for path, digest in parse_sums(text).items()}
    if not sums:
        return set(), {}, "no list of checksums (SHA256SUMS.txt, MD5SUMS) is here: a changed byte would not be seen"
    missing = {name for name in sums if name not in tree.files} - seen
    there = sorted(sums.keys() & tree.files - seen)
    if mode == "false":
        return missing, {}, f"{len(there)} checksums were not looked at (checksums=false)"
    chosen = random.Random(0).sample(there, min(SAMPLED, len(there))) if mode == "sample" else there
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda name: _changed(tree.root / name, sums[name]), chosen)
        bar = tqdm(zip(chosen, found, strict=True), total=len(chosen), desc="checksums", disable=None)
        damaged = {name: why for name, why in bar if why}
    return (
        missing,
        damaged,
        f"{len(chosen) - len(damaged)} of {len(chosen)} checksums are the publisher's"
        + (f" (a sample of {len(there)})" if mode == "sample" else ""),
    )


def _changed(path: Path, published: str) -> str:
    algorithm = ALGORITHMS[len(published)]
    try:
        return "" if digest(path, algorithm) == published else f"is not what was published: its {algorithm} differs"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def tell_missing(
    tree: Tree, missing: Iterable[str], optional: Sequence[str], subset: bool, do: str
) -> Iterator[Finding]:
    """A line for each file or whole folder that is missing."""
    counted = Counter(tree.absent(name) for name in missing)
    told = []
    for name, count in sorted(counted.items()):
        text = f"{name} is missing" + (f" ({count} files)" if name.endswith("/") else "")
        left_out = any(fnmatchcase(name.rstrip("/"), pattern) for pattern in optional)
        told.append(Finding("note" if subset or left_out else "WRONG", text, "" if subset or left_out else do))
    yield from shorten(told, do)


def tell_damaged(damaged: dict[str, str], do: str) -> Iterator[Finding]:
    """A line for each damaged file."""
    yield from shorten([Finding("WRONG", f"{name} {why}", do) for name, why in sorted(damaged.items())], do)


def shorten(findings: Sequence[Finding], do: str) -> Iterator[Finding]:
    """The first few, those that are wrong before others, and how many more there are."""
    findings = sorted(findings, key=lambda finding: finding.level == "note")
    yield from findings[:SHOWN]
    if len(findings) > SHOWN:
        level: Literal["note", "WRONG"] = "WRONG" if any(f.level == "WRONG" for f in findings[SHOWN:]) else "note"
        yield Finding(level, f"… {len(findings) - SHOWN} more of these", do if level == "WRONG" else "")


def tell_closed(tree: Tree) -> Iterator[Finding]:
    """A line for each folder and file that may not be read."""
    closed = [(name, f"chmod -R u+rX {shlex.quote(name)}, or ask its owner") for name in tree.closed]
    yield from shorten([Finding("WRONG", f"{name} may not be read by you", do) for name, do in closed], "the same")


def tell_unfinished(tree: Tree, do: str) -> Iterator[Finding]:
    """A line for each file that a download did not bring to its end."""
    parts = sorted(name for name in tree.files if name.endswith(PART))
    yield from shorten([Finding("WRONG", f"{name} was not fetched to its end", do) for name in parts], do)
