"""What every source gives to `prepare`: a config class, an index of its records, and their signals."""

from __future__ import annotations

import csv
import hashlib
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import wfdb
from pydantic import Field, field_validator, model_validator

from shared.config import RepoPath, Section
from shared.data.spec import FS, SECONDS, parse_features
from shared.data.store import MICROVOLT
from shared.errors import UserError
from shared.leads import LEADS, is_lead, parse_leads
from shared.signals import FS_RANGE, MILLIVOLT

PROBLEM = "problem"
"""Column of an index: why a row of the database's table cannot be used; empty or absent where it can."""
BAD_ROW = "bad row"
"""The reason under which such a row is counted."""


class PrepareConfig(Section):
    """What is common to every source. The store holds `seconds` of every record at `fs`, leads in this order."""

    source: str
    root: RepoPath | None = Field(None, description="folder of the database")
    out: RepoPath = Field(description="folder of the store to write")
    fs: float = Field(FS, ge=25, le=2000, description="sampling rate of the store, Hz")
    seconds: float = Field(SECONDS, gt=0.5, description="length of a segment, s")
    leads: tuple[str, ...] = LEADS
    features: tuple[str, ...] = Field(
        (), description="measurements stored beside the signals: names of shared.features.FEATURES, or all"
    )
    exclude: tuple[
        Literal["flat_lead", "clipped", "amplitude", "offset", "frozen", "zeros", "noise", "limb", "odd_age"], ...
    ] = Field(
        ("flat_lead",),
        description="flags that leave a segment out; NaN always does, since int16 cannot hold it. `amplitude` compares "
        "with the whole source and reads it twice",
    )
    resample: Literal["polyphase", "fft"] = Field(
        "polyphase", description="fft takes a record for periodic, as published preprocessing does, and spoils its ends"
    )
    short: Literal["leave_out", "pad", "tile"] = Field(
        "leave_out", description="records shorter than `seconds`: leave out, zeros behind, or repeat"
    )
    scale: float | None = Field(
        None, gt=0, description="of a unit in one step of the stored integers; of mV 0.001, of others it must be given"
    )
    copies: Literal["one_fold", "name"] | None = Field(
        None,
        description="copies of one recording get one fold with all records of their patients, or are only named; "
        "null: one_fold, but name where the folds are published ones",
    )
    near_copies: bool | None = Field(
        None,
        description="look for copies that are shifted, cut, resampled, rescaled or filtered too; null: in up to 30 000 "
        "segments, as the time grows with the square",
    )
    limit: int | None = Field(None, ge=1, description="read only the first records")
    workers: int = Field(-1, description="parallel jobs; -1 = one a core")
    backend: Literal["loky", "dask", "threading", "sequential"] = "loky"
    scheduler: str | None = Field(
        None, description="address of a dask scheduler, for backend=dask; else one is started"
    )
    chunk: int = Field(32, ge=1, description="records a job reads at a time")
    shard: int = Field(8192, ge=1, description="segments in one signals-*.npy")
    overwrite: bool = False

    @field_validator("leads", mode="before")
    @classmethod
    def _names(cls, value: object) -> object:
        return parse_leads(value, others=True) if isinstance(value, str | list | tuple) else value

    @field_validator("features", mode="before")
    @classmethod
    def _features(cls, value: object) -> object:
        return parse_features(value) if isinstance(value, str | list | tuple) else value

    @model_validator(mode="after")
    def _measurable(self) -> PrepareConfig:
        if self.features and self.fs < FS_RANGE[0]:
            raise ValueError(
                f"features need fs of {FS_RANGE[0]:g} Hz or more, not {self.fs:g}: raise fs, or features=[]"
            )
        if self.scheduler is not None and self.backend != "dask":
            raise ValueError(f"scheduler is for backend=dask, not backend={self.backend}")
        if self.store_unit != "mV" and (self.scale is None or self.features):
            raise ValueError(
                f"signals in {self.store_unit} need `scale`, the {self.store_unit} of a step, and no features"
            )
        return self

    @property
    def store_unit(self) -> str:
        """Unit of the store's signals: mV, whatever the files' is, but for signals that are no voltage."""
        return "mV"

    @property
    def published_folds(self) -> bool:
        """Whether the folds are the publisher's, or the user's own, and not drawn here."""
        return False

    @property
    def step(self) -> float:
        """Of the unit in one step of the stored integers."""
        return MICROVOLT if self.scale is None else self.scale


@dataclass(frozen=True)
class Recording:
    """One record as read.

    Attributes:
        signal: `[L, T]` float32, in `unit`.
        fs: Hz.
        leads: names as in the header.
        info: further columns for `records.parquet` known only after reading (age, labels in a header, …).
        unit: mV, or that of signals which are no voltage.
    """

    signal: np.ndarray
    fs: float
    leads: Sequence[str]
    info: dict[str, Any] = field(default_factory=dict)
    unit: str = "mV"


class RecordError(Exception):
    """One record cannot be used; it is left out and counted under `reason`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.reason, self.detail)


@dataclass(frozen=True)
class Source:
    """One database: a module of this package and one line in `SOURCES`.

    Attributes:
        Config: its options.
        LABELS: columns that hold a list of label names per record.
        index: config to one row per record: `record`, `patient`, `age`, `sex`, `fold`, labels, and what `read` needs. A row
            of the database's table that cannot be used stays in it, with the reason under `PROBLEM`.
        read: config and rows to the signals of these rows, in order; a record that fails is returned as its error.
    """

    Config: type[PrepareConfig]
    LABELS: tuple[str, ...]
    index: Callable[[Any], pd.DataFrame]
    read: Callable[[Any, pd.DataFrame], list[Recording | RecordError]]


def read_each(read_one: Callable[[Any], Recording], rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Apply `read_one` to each row; any failure becomes that record's RecordError, so that one bad file stops nothing."""
    results: list[Recording | RecordError] = []
    for row in rows.itertuples(index=False):
        try:
            recording = read_one(row)
            if recording.signal.shape[-1] == 0:
                raise RecordError("empty", f"{row.record} holds no sample")
            results.append(recording)
        except RecordError as error:
            results.append(error)
        except Exception as error:  # a third-party reader raises anything on a broken file
            results.append(RecordError("unreadable", f"{row.record}: {type(error).__name__}: {error}"))
    return results


def read_table(path: Path, needed: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """A database's CSV, every cell as text without outer blanks, and what is wrong with each line's shape (mostly nothing).

    Args:
        path: the file.
        needed: columns that it must have.

    Returns:
        `(table, problems)`; of a line with too many or too few cells only the first is kept, which names it.

    Raises:
        UserError: not a readable CSV, or a column is missing or there twice.
    """
    lines: list[list[str]] = []
    problems: list[str] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            for cells in reader:
                shape = f"{len(cells)} cells where {len(header)} are expected (line {reader.line_num})"
                if cells:
                    whole = len(cells) == len(header)
                    lines.append([cell.strip() for cell in cells] if whole else [cells[0], *[""] * (len(header) - 1)])
                    problems.append("" if whole else shape)
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path} is not a readable CSV: {error} (after line {len(lines) + 1}).") from None
    missing = [name for name in needed if name not in header]
    if missing:
        raise UserError(f"{path} has no column {', '.join(missing)}.")
    twice = [name for name in needed if header.count(name) > 1]
    if twice:
        raise UserError(f"{path} has column {', '.join(twice)} more than once.")
    return pd.DataFrame(lines, columns=header, dtype=str), problems


def read_wfdb(path: Path) -> tuple[Recording, list[str]]:
    """Read one WFDB record as float32 mV; also its header comments.

    Args:
        path: without extension.

    Channels that are no ECG lead and have another unit (a blood pressure in mmHg) are passed over.

    Raises:
        RecordError: missing or unreadable header, missing or truncated signal file, several segments, unknown unit.
    """
    try:
        _check_record_line(path)
        record = wfdb.rdrecord(str(path), return_res=32)
    except Exception as error:
        record = _read_mended(path, error)
    if record.p_signal is None:
        raise RecordError("unreadable header", f"{path}.hea names no signal")
    kept, scale = [], []
    names = [name or f"signal {row}" for row, name in enumerate(record.sig_name)]  # a header need not name them
    for row, (name, unit) in enumerate(zip(names, record.units, strict=True)):
        if str(unit).lower() in MILLIVOLT:
            kept.append(row)
            scale.append(MILLIVOLT[str(unit).lower()])
        elif is_lead(name) or len(names) == 1:
            raise RecordError("unknown unit", f"{path}: lead {name} is in {unit!r}; expected mV, uV or V")
    signal = np.ascontiguousarray(
        record.p_signal.T[kept] * np.array(scale, dtype=np.float32)[:, None], dtype=np.float32
    )
    return Recording(signal, float(record.fs), [names[row] for row in kept]), list(record.comments or [])


GRAMMAR = re.compile(
    r"[-\w]+(/\d+)?[ \t]+\d+([ \t]+\d+(\.\d+)?(/\S+)?([ \t]+\d+([ \t]+[\d:.]+([ \t]+[\d/.-]+)?)?)?)?[ \t]*"
)
"""A record line as WFDB's header(5) has it: name, channels, rate, length, time, date, all but two optional."""


def _check_record_line(path: Path) -> None:
    """Refuse a line that `wfdb` would read up to where it stops understanding: half a rate, and the length unsaid.

    Raises:
        ValueError: not in WFDB's grammar.
    """
    with path.with_name(f"{path.name}.hea").open(errors="replace") as file:
        first = next((line.strip() for line in file if line.strip() and line.strip()[0] != "#"), "")
    if not GRAMMAR.fullmatch(first):
        raise ValueError(f"record line {first[:80]!r} is none")


RECORD_LINE = re.compile(r"\s*([-\w]+?)(?:\.mat|\.dat|\.hea)?[ \t]+(\d+)[ \t]+([\d.]+)[ \t]+(\d+)\b.*")
"""Name, channels, rate and length of a record, with whatever comes after."""


def _read_mended(path: Path, error: Exception) -> wfdb.Record:
    """The record read under a record line that says the same in WFDB's grammar; else why it cannot be read.

    Challenge headers have lines such as `E07500.mat 12 500 5000 05-May-2020 14:50:55`.
    """
    header = path.with_name(f"{path.name}.hea")
    lines = header.read_text(errors="replace").splitlines() if header.is_file() else []
    first = next((i for i, line in enumerate(lines) if line.strip() and line[0] != "#"), None)
    found = None if first is None else RECORD_LINE.fullmatch(lines[first])
    mended = "" if found is None else " ".join(found.groups())
    if first is None or not mended or mended == lines[first].strip():
        raise _diagnose(path, error) from None
    with tempfile.TemporaryDirectory() as folder:
        lines[first] = mended
        (Path(folder) / header.name).write_text("\n".join(lines) + "\n")
        for line in lines[first + 1 :]:
            name = line.split()[0] if line.strip() and line[0] != "#" else ""
            if Path(name).name == name != "" and (path.parent / name).is_file() and not (Path(folder) / name).exists():
                (Path(folder) / name).symlink_to((path.parent / name).resolve())
        try:
            return wfdb.rdrecord(str(Path(folder) / path.name), return_res=32)
        except Exception as second:
            raise _diagnose(path, second) from None


def _diagnose(path: Path, error: Exception) -> RecordError:
    """Why a record could not be read. Looked into after the failure only: parsing a header twice halves the speed."""
    header_file = path.with_name(f"{path.name}.hea")
    if not header_file.is_file():
        return RecordError("missing file", f"{header_file} does not exist")
    try:
        header = wfdb.rdheader(str(path))
    except Exception as header_error:
        return RecordError("unreadable header", f"{header_file}: {type(header_error).__name__}: {header_error}")
    for name in sorted(set(header.file_name or [])):
        if not (path.parent / name).is_file():
            return RecordError("missing file", f"{header_file} names {name}, which does not exist beside it")
    return RecordError("unreadable signal", f"{path}: truncated or damaged ({type(error).__name__}: {error})")


def require_root(root: Path | None, *files: str) -> Path:
    """The database folder, with the files it must hold.

    Raises:
        UserError: no folder given, or it is not the database.
    """
    if root is None:
        raise UserError("`root` is not set: give the folder of the database, e.g. root=/data/ptb-xl.")
    if not root.is_dir():
        raise UserError(f"root {root} is not a folder. Give the folder that holds {', '.join(files) or 'the records'}.")
    for name in files:
        if not (root / name).is_file():
            raise UserError(f"{root} holds no {name}. Point `root` at the unpacked database.")
    return root


def ages(values: pd.Series) -> pd.Series:
    """Ages in years as float, NaN where unknown, for which CPSC and MIT-BIH write -1.

    300, which stands for "over 89" in PTB-XL and what was made of it, is 90 everywhere.
    """
    years = pd.to_numeric(values, errors="coerce").astype(float)
    return years.where(years != -1).where(years != 300, 90.0)


def fold_by_patient(patients: pd.Series, num_folds: int = 10) -> pd.Series:
    """A fold 1…num_folds from the patient's name alone: the same for every machine, order and subset; each name hashed once."""

    def fold(name: str) -> int:
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        return 1 + int.from_bytes(digest, "little") % num_folds

    names = patients.astype(str)
    return names.map({name: fold(name) for name in names.unique()}).astype(int)
