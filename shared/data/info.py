"""Show what is in a store, or what sets two apart: a page with figures, and a summary in words.

    python -m shared.data.info STORE [out=FOLDER]               default: runs/info/NAME
    python -m shared.data.info --compare STORE OTHER [out=FOLDER]

The stores are only read.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from shared.config import asks_for_help, entry_point, repo_path
from shared.data.describe import Description, describe_store, settings_apart, shared_of
from shared.data.info_page import headlines, num, write_page
from shared.errors import UserError, did_you_mean
from shared.files import hold

USAGE = "usage: python -m shared.data.info STORE [--compare OTHER] [out=FOLDER]"
COMPARE = "--compare"
SHOWN = 12
"""Labels of a set that the summary names."""


def info(paths: Sequence[Path], out: Path | None = None) -> Path:
    """Print a summary and write the page; returns its path.

    Args:
        paths: one store, or two to be compared.
        out: folder of the page; None: runs/info/ and the stores' names.

    Raises:
        StoreError: a path is no store, or it is damaged.
        UserError: the page would lie in a store.
    """
    stores = [describe_store(path) for path in paths]
    if len(stores) == 2 and stores[0].name == stores[1].name:
        stores = [Description(_longer_name(one), one.store) for one in stores]
    out = out or repo_path(Path("runs") / "info" / "_".join(one.name.replace("/", "_") for one in stores))
    for one in stores:
        if out.resolve().is_relative_to(one.store.path.resolve()):
            raise UserError(
                f"out={out} lies in the store {one.store.path}, which stays as it was prepared. Give another folder."
            )
    with hold(out):
        out.mkdir(parents=True, exist_ok=True)
        page = write_page(out, stores)
    print(*summary(stores), "", page, sep="\n")
    return page


def summary(stores: Sequence[Description]) -> Iterator[str]:
    """The same in words, a line each."""
    yield from headlines(stores)
    for one in stores:
        yield ""
        yield f"{one.name}  {one.store.path}"
        made_by = one.store.meta["made_by"]
        yield f"  made of      {made_by.get('source', 'unknown')}, {made_by.get('root') or 'no folder'}"
        yield f"  fingerprint  {one.store.fingerprint}"
        folds = one.records.fold.value_counts().sort_index()
        yield "  folds        " + ", ".join(f"{fold}: {num(int(count))}" for fold, count in folds.items())
        yield f"  age          {_spread(one.column('age'), 'years')}"
        yield "  sex          " + ", ".join(f"{name} {num(count)}" for name, count in one.sexes.items())
        rates, where = one.heart_rate
        yield f"  heart rate   {_spread(rates, 'bpm')} ({where})"
        yield f"  amplitude    {_spread(one.amplitudes.ravel(), one.store.unit, '.2f')}, peak to peak, all leads"
        for column, counts in one.labels.items():
            shown = ", ".join(f"{name} {num(count)}" for name, count in list(counts.items())[:SHOWN])
            yield f"  {column:<12} {shown}" + (f", … ({len(counts)} in all)" if len(counts) > SHOWN else "")
    if len(stores) == 2:
        yield ""
        yield "shared       " + ", ".join(f"{num(count)} {what}" for what, count in shared_of(*stores).items())
        for key, (left, right) in settings_apart(*stores).items():
            yield f"apart        {key}: {left} | {right}"


def _spread(values: np.ndarray, unit: str, how: str = ".0f") -> str:
    known = values[np.isfinite(values)]
    if not len(known):
        return "not known"
    low, middle, high = np.percentile(known, (5, 50, 95))
    return f"median {middle:{how}} {unit}, 5 to 95 %: {low:{how}} to {high:{how}}"


def _longer_name(one: Description) -> str:
    return f"{one.store.path.parent.name}/{one.store.path.name}"


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if asks_for_help(argv):
        print(__doc__)
        return
    options = [arg for arg in argv if arg.startswith("-")]
    paths = [arg for arg in argv if "=" not in arg and arg not in options]
    settings = dict(arg.partition("=")[::2] for arg in argv if "=" in arg and arg not in options)
    unknown = [*(option for option in options if option != COMPARE), *(key for key in settings if key != "out")]
    if unknown:
        raise UserError(f"unknown argument {unknown[0]!r}{did_you_mean(unknown[0], (COMPARE, 'out'))} {USAGE}")
    expected = 2 if options else 1
    if len(paths) != expected:
        hint = f" To compare two, say {COMPARE}." if len(paths) == 2 else ""
        raise UserError(f"{expected} store(s) expected, {len(paths)} given.{hint} {USAGE}")
    info([repo_path(path) for path in paths], repo_path(settings["out"]) if settings.get("out") else None)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    entry_point(main)
