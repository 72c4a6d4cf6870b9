"""What runs there are and how far they came; what one of them is made of.

    python -m shared.runs [FOLDER …]       a table of all run folders below (default: runs)
    python -m shared.runs info RUN         its record, its checkpoints and whether they are whole, its last figures

A run is a folder with checkpoints/. Nothing is written.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml

from shared.checkpoints import WEIGHTS, checkpoints_of, step_of
from shared.config import asks_for_help, entry_point, repo_path
from shared.errors import UserError
from shared.files import damage, is_held, walk_links
from shared.run_folder import BEST
from shared.run_record import read_record

CHOSEN = ("val_auroc", "knn_auroc")
"""Figures of a log of which the highest is the best, the first that is there."""


@dataclass(frozen=True)
class Summary:
    """One line of the table; `-` where it is not known."""

    run: str
    state: str
    step: str
    epoch: str
    best: str
    age: str
    speed: str


def find_runs(folder: Path) -> Iterator[Path]:
    """Run folders at and below a folder, by path; each link's folder is looked into once."""
    for path, folders, _ in walk_links(folder):
        if "checkpoints" in folders:
            yield path
        folders[:] = [name for name in folders if name not in ("checkpoints", "tensorboard") and name[0] != "."]


def summarise(run: Path, name: str) -> Summary:
    """State, progress, best figure, age and speed of a run.

    Args:
        run: its folder.
        name: what the table calls it.
    """
    lines, record, checkpoints = read_log(run), read_record(run), checkpoints_of(run)
    last = record[-1] if record else {}
    epochs = [line["epoch"] for line in lines if "epoch" in line]
    logged = [line["step"] for line in lines if "step" in line]
    step = max([step_of(path) for path in checkpoints[-1:]] + logged[-1:], default=None)
    written = [path.stat().st_mtime for path in (run / "log.jsonl", *checkpoints[-1:]) if path.exists()]
    speed = last.get("ecg_per_second")
    return Summary(
        run=name,
        state=state_of(run, last),
        step="-" if step is None else str(step),
        epoch=f"{epochs[-1] if epochs else 0}/{wanted_epochs(run) or '?'}",
        best=best_of(run, lines),
        age=str(timedelta(seconds=round(time.time() - max(written)))) if written else "-",
        speed=f"{speed:.1f} ECG/s" if speed else "-",
    )


def state_of(run: Path, last: dict[str, Any]) -> str:
    """running, done, stopped (and by what), killed, or unknown, of a run whose last entry of its record is this one."""
    if is_held(run):
        return "running"
    if not last:
        return "unknown"
    return "killed" if last.get("ended") is None else str(last["ended"]).strip(": ")


def best_of(run: Path, lines: Sequence[dict[str, Any]]) -> str:
    """The figure that `best/` was chosen by, else the highest that the log has of those an epoch is chosen by."""
    try:
        kept = json.loads((run / BEST / f"{BEST}.json").read_text())
        return f"{kept['metric']} {kept['value']:.4g} (epoch {kept['epoch']})"
    except (OSError, ValueError, KeyError, TypeError):
        pass
    for name in CHOSEN:
        found = [(line[name], line.get("epoch", "?")) for line in lines if name in line]
        if found:
            value, epoch = max(found, key=lambda pair: pair[0])
            return f"{name} {value:.4g} (epoch {epoch})"
    return "-"


def wanted_epochs(run: Path) -> int | None:
    """`optim.epochs` of its config."""
    try:
        return int(yaml.safe_load((run / "config.yaml").read_text())["optim"]["epochs"])
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError):
        return None


def read_log(run: Path) -> list[dict[str, Any]]:
    """The lines of `log.jsonl`; half a line at the end of a run that goes on is passed over."""
    lines = []
    path = run / "log.jsonl"
    for text in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


def table(rows: Sequence[Summary]) -> str:
    """Aligned columns under their names."""
    names = [field.name for field in fields(Summary)]
    cells = [names, *([getattr(row, name) for name in names] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def info(run: Path) -> str:
    """All that is known of a run.

    Raises:
        UserError: it is no run folder.
    """
    if not (run / "checkpoints").is_dir():
        raise UserError(
            f"{run} is no run folder: it has no checkpoints/. `python -m shared.runs FOLDER` lists those below one."
        )
    lines = [table([summarise(run, str(run))]), "", "checkpoints:"]
    for path in checkpoints_of(run):
        size = sum(file.stat().st_size for file in path.iterdir()) / 2**20
        lines.append(f"  {path.name}  {size:.1f} MiB  {damage(path, WEIGHTS) or 'whole'}")
    logged = read_log(run)
    epochs = [line for line in logged if "epoch" in line]
    for title, line in (("last epoch", epochs[-1:]), ("last step", logged[-1:])):
        lines += ["", f"{title}: {json.dumps(line[0])}"] if line else []
    for number, entry in enumerate(read_record(run), 1):
        lines += ["", f"start {number}:", *(f"  {key}: {json.dumps(value)}" for key, value in entry.items())]
    return "\n".join(lines)


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if asks_for_help(argv):
        print(__doc__)
        return
    if argv[:1] == ["info"]:
        if len(argv) != 2:
            raise UserError(f"info takes one run folder, {len(argv) - 1} given. Usage: python -m shared.runs info RUN")
        print(info(repo_path(argv[1])))
        return
    folders = [repo_path(arg) for arg in argv or ("runs",)]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise UserError(f"{', '.join(missing)} is no folder. Usage: python -m shared.runs [FOLDER …]")
    rows = [summarise(run, os.path.relpath(run)) for folder in folders for run in find_runs(folder)]
    print(table(rows) if rows else f"no run folder (one with checkpoints/) below {', '.join(map(str, folders))}")


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    entry_point(main)
