"""From files of ECG to a table of embeddings.

python -m shared.apply weights=runs/st_mem/pretrain input=FOLDER_OR_FILE [out=embeddings.parquet] [fs=500] [unit=uV]
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from pydantic import Field, field_validator
from torch import Tensor
from tqdm import tqdm

from shared.config import RepoPath, Section, config_from_cli, entry_point
from shared.data.arrays import check_shape, windows_of
from shared.data.recordings import Settings, Signals, find_files, needs_rate, read_signals
from shared.data.resampled import at_rate
from shared.data.spec import InputSpec
from shared.data.store import ECGStore
from shared.embeddings import embed_store
from shared.encoders import embed_windows, load_encoder
from shared.errors import UserError
from shared.files import hold
from shared.leads import parse_leads
from shared.outside import as_encoder, load_outside
from shared.ranks import pick_device

SHOWN = 10
"""Records left out that are printed; the file beside the table has them all."""


class ApplyConfig(Section):
    """`python -m shared.apply`: files to a table of embeddings."""

    weights: RepoPath | None = Field(None, description="run folder, model.safetensors, or a released file")
    module: str | None = Field(None, description="in place of weights: `module:object`, an outside encoder")
    input: RepoPath = Field(description="a store, a file of ECG (.hea, .npy, .npz, .csv), or a folder of them")
    out: RepoPath = Field(
        Path("embeddings.parquet"), validate_default=True, description="the table to write, .parquet or .csv"
    )
    fs: float | None = Field(None, gt=0, description="of .npy and .csv, Hz; .npz may hold it as `fs`")
    leads: tuple[str, ...] | None = Field(
        None, description="names of the rows of .npy/.npz, or columns of .csv without names, in order; null: all twelve"
    )
    unit: Literal["mV", "uV", "V"] = Field("mV", description="of .npy, .npz and .csv; WFDB says its own")
    num_crops: int = Field(1, ge=1, description="evenly spaced windows per record, embeddings averaged")
    batch_size: int = Field(64, ge=1, description="records at a time")
    device: str = Field("auto", description="auto, cpu, cuda, …")

    @field_validator("leads", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return parse_leads(value) if isinstance(value, str | list | tuple) else value


def apply(config: ApplyConfig) -> pd.DataFrame:
    """Embed what the config names and write the table: `record` and its `row` in the file (or `segment`), then `e0000` and so on.

    Raises:
        UserError: nothing there, nothing usable, no place to write, or an encoder that cannot be read.
    """
    if (config.weights is None) == (config.module is None):
        raise UserError("give the encoder: weights=RUN_OR_FILE, or module=my_module:object for an outside one.")
    _make_place(config.out)
    with hold(config.out):
        return _apply(config)


def _apply(config: ApplyConfig) -> pd.DataFrame:
    encoder = as_encoder(load_outside(config.module) if config.module else load_encoder(str(config.weights)))
    encoder.to(pick_device(config.device))
    in_store = (config.input / "store.json").is_file()
    names, embeddings, left_out = (_embed_store if in_store else _embed_files)(encoder, config)
    columns = [f"e{i:04d}" for i in range(embeddings.shape[1])]
    table = pd.concat([names, pd.DataFrame(embeddings, columns=columns)], axis=1)
    _write(config.out, table)
    beside = config.out.with_suffix(".left_out.csv")
    beside.unlink(missing_ok=True)
    missing = ""
    if left_out:
        pd.DataFrame(left_out, columns=["record", "row", "reason"]).to_csv(beside, index=False)
        missing = f"; {len(left_out)} left out, named in {beside.name}"
    print(f"{config.out}: {len(table)} embeddings of {embeddings.shape[1]} numbers{missing}")
    return table


def _make_place(out: Path) -> None:
    """Make the folder of a table, before there is anything to lose."""
    if out.suffix not in (".parquet", ".csv"):
        raise UserError(f"out is {out.name}; expected a name that ends in .parquet or .csv.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out {out} cannot be written: {error}") from None


def _write(out: Path, table: pd.DataFrame) -> None:
    """Write a table beside its place and rename it, so that it is whole or not there."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        if out.suffix == ".csv":
            table.to_csv(partial, index=False)
        else:
            table.to_parquet(partial, index=False)
        os.replace(partial, out)
    except OSError as error:
        raise UserError(f"out {out} cannot be written: {error}") from None


LeftOut = list[tuple[str, int, str]]
Embedded = tuple[pd.DataFrame, np.ndarray, LeftOut]
"""Who the records are, their embeddings `[n, D]`, and record, row and reason of those left out."""


def _embed_store(encoder: Any, config: ApplyConfig) -> Embedded:
    """A store, of the encoder's leads those that it has; resampled on reading where the encoder takes another rate."""
    spec: InputSpec = encoder.input_spec
    store = at_rate(ECGStore(config.input), spec.fs)
    there = tuple(name for name in spec.leads if name in store.leads)
    subset = None if there == spec.leads or not there else there
    if subset is not None:
        print(f"embedded from {', '.join(subset)} alone, as the store has no more of the encoder's leads")
    embeddings = embed_store(
        encoder,
        store,
        np.arange(len(store)),
        leads=subset,
        num_crops=config.num_crops,
        batch_size=config.batch_size,
        device=pick_device(config.device),
    )
    names = store.records[[c for c in ("record", "segment") if c in store.records]].reset_index(drop=True)
    return names, embeddings, []


def _embed_files(encoder: Any, config: ApplyConfig) -> Embedded:
    """A file, or those of a folder; one that cannot be embedded stops nothing.

    Raises:
        UserError: none could be.
    """
    names: list[tuple[str, int]] = []
    found: dict[int, np.ndarray] = {}
    waiting: dict[tuple[str, ...] | None, list[tuple[int, Tensor]]] = {}
    left_out: LeftOut = []

    def flush(subset: tuple[str, ...] | None) -> None:
        places, windows = zip(*waiting.pop(subset), strict=True)
        found.update(zip(places, embed_windows(encoder, torch.cat(windows), subset, config.batch_size), strict=True))

    fewer: dict[tuple[str, ...], list[str]] = {}
    for record, row, made in _read_files(encoder, config):
        if isinstance(made, UserError):
            left_out.append((record, row, str(made)))
            if len(left_out) <= SHOWN:
                tqdm.write(f"left out {record}{f', row {row}' if row else ''}: {made}")
            continue
        windows, subset = made
        waiting.setdefault(subset, []).append((len(names), windows))
        names.append((record, row))
        if subset is not None:
            fewer.setdefault(subset, []).append(record)
        if len(waiting[subset]) >= config.batch_size:
            flush(subset)
    for subset in list(waiting):
        flush(subset)
    if not names:
        raise UserError(f"no record of {config.input} could be embedded; the first, {left_out[0][0]}: {left_out[0][2]}")
    if len(left_out) > SHOWN:
        print(f"… and {len(left_out) - SHOWN} more")
    for subset, records in fewer.items():
        print(f"{len(records)} embedded from {', '.join(subset)} alone, as they have no more (first: {records[0]})")
    return pd.DataFrame(names, columns=["record", "row"]), np.stack([found[i] for i in range(len(names))]), left_out


Made = tuple[Tensor, tuple[str, ...] | None]


def _read_files(encoder: Any, config: ApplyConfig) -> Iterator[tuple[str, int, Made | UserError]]:
    """Record, row in its file, and windows with their leads as `windows_of` gives them, or why there are none."""
    files, root = find_files(config.input), config.input
    settings = Settings(config.fs, config.leads, config.unit)
    if config.fs is None and root.is_dir():
        silent = [file for file in files if needs_rate(file)]
        if len(silent) == len(files):
            raise UserError(
                f"fs is not set: the {len(files)} files of {root} do not say their sampling rate, e.g. fs=500."
            )
        if silent:
            print(f"passed over {len(silent)} .npy and .csv files, which do not say their rate (fs is not set)")
        files = [file for file in files if not needs_rate(file)]
    for file in tqdm(files, unit="file", disable=None):
        name = file.relative_to(root).as_posix() if root.is_dir() else file.name
        name = name.removesuffix(".hea")
        try:
            signals = read_signals(file, settings)
            check_shape(np.shape(signals.x), signals.leads)
        except UserError as error:
            yield name, 0, error
            continue
        for row, x in enumerate(signals.x if np.ndim(signals.x) == 3 else signals.x[None]):
            yield name, row, _windows_or_error(name, row, encoder, x, signals, config.num_crops)


def _windows_or_error(
    name: str, row: int, encoder: Any, x: np.ndarray, signals: Signals, num_crops: int
) -> Made | UserError:
    """Windows of one record; what is odd about it is printed."""
    with warnings.catch_warnings(record=True) as odd:
        warnings.simplefilter("always")
        try:
            made = windows_of(encoder.input_spec, x, signals.fs, signals.leads, signals.unit, num_crops)
        except UserError as error:
            return error
    if made[1] is not None and not getattr(encoder, "takes_leads", True):
        return UserError(f"it has {', '.join(made[1])} of the encoder's leads, and the encoder takes all of them only.")
    for warning in odd:
        tqdm.write(f"{name}{f', row {row}' if row else ''}: {warning.message}")
    return made


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    apply(config_from_cli(ApplyConfig, argv))


if __name__ == "__main__":
    entry_point(main)
