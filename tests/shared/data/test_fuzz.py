"""Twenty thousand damaged files: no reader crashes or hangs, and what it accepts has the length, leads and scale of its file.

Bytes of every kind of file are changed, cut out, doubled and cut off; headers and tables of text are changed by Hypothesis.
What is then read is either an error that a user can act on or a record that an own reading of the same bytes agrees with.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import wfdb

from shared.data.prepare import without_problems
from shared.data.segments import process_chunk
from shared.data.sources import SOURCES
from shared.data.sources.base import PrepareConfig, RecordError, Recording
from shared.data.sources.ludb import COLUMNS
from shared.errors import UserError
from tests.shared.data.wfdb_records import draw_ecg

FS, SAMPLES = 100, 300
FEW = ("I", "II", "V1")
"""What is read of a file costs by the lead."""
SECONDS = 2.0
HANG_S = 20.0
CASES = 300
"""Of every reader, beside those of Hypothesis."""
TEXTS = 150


@dataclass(frozen=True)
class Reader:
    """A source, a small database for it, and which of its files are damaged."""

    make: Callable[[Path], PrepareConfig]
    files: str


def signals(number: int = 12) -> np.ndarray:
    return draw_ecg(3, SAMPLES)[:number]


def write_wfdb(path: Path, leads: tuple[str, ...] = FEW, fmt: str = "16", comments: tuple[str, ...] = ()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    number = len(leads)
    gain = 1000.0 if fmt == "16" else 200.0
    wfdb.wrsamp(
        path.name,
        fs=FS,
        units=["mV"] * number,
        sig_name=list(leads),
        p_signal=signals(number).T.astype(float),
        fmt=[fmt] * number,
        adc_gain=[gain] * number,
        baseline=[0] * number,
        comments=list(comments),
        write_dir=str(path.parent),
    )


COMMON: dict[str, Any] = {"leads": FEW, "fs": FS, "seconds": SECONDS, "exclude": (), "backend": "sequential"}


def folder(root: Path) -> PrepareConfig:
    write_wfdb(root / "a", comments=("Age: 60", "Sex: Male", "Dx: 426783006,59118001"))
    return SOURCES["wfdb_folder"].Config(root=root, out=root / "out", **COMMON)


def challenge(root: Path) -> PrepareConfig:
    """`.mat` files of the challenges are int16 behind 24 bytes."""
    write_wfdb(root / "georgia" / "g1" / "E00001", comments=("Age: 60", "Sex: Male", "Dx: 426783006,59118001"))
    stem = root / "georgia" / "g1" / "E00001"
    stem.with_suffix(".mat").write_bytes(bytes(24) + stem.with_suffix(".dat").read_bytes())
    stem.with_suffix(".dat").unlink()
    header = stem.with_suffix(".hea")
    header.write_text(header.read_text().replace("E00001.dat 16 ", "E00001.mat 16+24 "))
    return SOURCES["challenge2021"].Config(root=root, out=root / "out", **COMMON)


def ptbxl(root: Path) -> PrepareConfig:
    write_wfdb(root / "records500" / "00000" / "00001_hr")
    row = "1,7.0,56.0,1,\"{'NORM': 100.0, 'SR': 0.0}\",3,lr/1,records500/00000/00001_hr"
    (root / "ptbxl_database.csv").write_text(
        f"ecg_id,patient_id,age,sex,scp_codes,strat_fold,filename_lr,filename_hr\n{row}\n"
    )
    (root / "scp_statements.csv").write_text(
        ",description,diagnostic,form,rhythm,diagnostic_class,diagnostic_subclass\nNORM,normal,1.0,,,NORM,NORM\nSR,sinus,,,1.0,,\n"
    )
    return SOURCES["ptbxl"].Config(root=root, out=root / "out", **COMMON)


def code15(root: Path) -> PrepareConfig:
    columns = "exam_id,age,is_male,1dAVb,RBBB,LBBB,SB,ST,AF,patient_id"
    (root / "exams.csv").write_text(f"{columns}\n12,45,True,False,True,False,False,False,True,7.0\n")
    tracings = np.zeros((2, 1400, 12), np.float32)
    tracings[0, 100:1300] = np.tile(signals(), 4).T
    with h5py.File(root / "exams_part0.hdf5", "w") as file:
        file["exam_id"], file["tracings"] = np.array([12, 0]), tracings
    return SOURCES["code15"].Config(root=root, out=root / "out", **COMMON)


def ludb(root: Path) -> PrepareConfig:
    stem = root / "data" / "1"
    write_wfdb(stem, tuple(name.lower() for name in FEW))
    symbols = ["(", "p", ")", "(", "N", ")", "(", "t", ")"]
    wfdb.wrann("1", "ii", np.arange(20, 110, 10), symbol=symbols, write_dir=str(stem.parent))
    columns, cells = ["ID", "Sex", "Age", *COLUMNS.values()], ["1", "F", "51", *["Sinus rhythm"] * len(COLUMNS)]
    (root / "ludb.csv").write_text(f"{','.join(columns)}\n{','.join(cells)}\n")
    return SOURCES["ludb"].Config(root=root, out=root / "out", **COMMON)


def mitbih(root: Path) -> PrepareConfig:
    write_wfdb(root / "100", ("MLII", "V5"), fmt="212", comments=("69 M 1085 1629 x1",))
    symbols, notes = ["N", "V", "A", "/", "N", "+", "~", "N"], ["", "", "", "", "", "(AFIB", "", ""]
    wfdb.wrann("100", "atr", np.arange(30, 270, 30), symbol=symbols, aux_note=notes, write_dir=str(root))
    return SOURCES["mitbih"].Config(root=root, out=root / "out", **{**COMMON, "leads": ("MLII", "V5")})


def physionet2017(root: Path) -> PrepareConfig:
    write_wfdb(root / "training" / "A00" / "A00001", ("ECG",))
    (root / "REFERENCE-v3.csv").write_text("A00001,N\n")
    return SOURCES["physionet2017"].Config(root=root, out=root / "out", **{**COMMON, "leads": ("ECG",)})


READERS: dict[str, Reader] = {
    "wfdb_folder": Reader(folder, "a.*"),
    "challenge2021": Reader(challenge, "georgia/g1/E00001.*"),
    "ptbxl": Reader(ptbxl, "**/*.*"),
    "code15": Reader(code15, "exams*"),
    "ludb": Reader(ludb, "**/*.*"),
    "mitbih": Reader(mitbih, "100.*"),
    "physionet2017": Reader(physionet2017, "**/*.*"),
}


# ---------------------------------------------------------------- one case


@contextmanager
def no_hang() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError(f"still reading after {HANG_S} s")

    outer = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, outer)


def read(config: PrepareConfig) -> list[Recording | RecordError]:
    """What comes of a damaged database: nothing but errors for users, and records that are what they say."""
    source = SOURCES[config.source]
    with no_hang():
        try:
            index, unusable = without_problems(source.index(config))
        except UserError as error:
            assert str(error).strip()
            return []
        assert all(item["detail"].strip() for item in unusable)
        found = source.read(config, index) if len(index) else []
        with pytest.MonkeyPatch.context() as once:  # what was read need not be read again
            once.setitem(SOURCES, config.source, replace(source, read=lambda *_: found))
            chunk = process_chunk(config, index) if len(index) else None
    assert len(found) == len(index)
    for result in found:
        if isinstance(result, RecordError):
            assert result.reason and result.detail
        else:
            check_recording(result)
    if chunk is not None:
        length = round(config.seconds * config.fs)
        assert chunk.signals.shape[1:] == (len(config.leads), length) and chunk.signals.dtype == np.int16
        assert len(chunk.signals) == len(chunk.rows) and chunk.num_read == len(index)
        heard = {row["record"] for row in chunk.rows} | {item["record"] for item in chunk.left_out}
        assert heard == set(index.record), "a record that is neither kept nor left out"
        pd.DataFrame(chunk.rows).to_json()  # of kinds that a table holds
    return list(found)


def check_recording(result: Recording) -> None:
    assert result.signal.ndim == 2 and result.signal.dtype == np.float32
    assert len(result.signal) == len(result.leads) and result.signal.shape[1] > 0
    assert np.isfinite(result.fs)


def naive_wfdb(header: Path) -> np.ndarray | None:
    """Signals `[L, T]` in mV of a header in the plainest form and int16 samples; None where it is in any other form."""
    try:
        lines = [line.split() for line in header.read_text(encoding="ascii").splitlines() if not line.startswith("#")]
        (_, number, rate, samples, *_), *rows = [line for line in lines if line]
        if len(rows) != int(number) or float(rate) <= 0:
            return None
        skip = 24 if all(row[1] == "16+24" for row in rows) else 0
        if (not skip and any(row[1] != "16" for row in rows)) or len({row[0] for row in rows}) != 1:
            return None
        raw = (header.parent / rows[0][0]).read_bytes()[skip:]
        data = np.frombuffer(raw[: 2 * int(number) * int(samples)], "<i2").reshape(int(samples), int(number)).T
        gains = []
        for row in rows:
            gain, unit = row[2].split("/")
            value, _, baseline = gain.partition("(")
            gains.append((float(value), int(baseline.rstrip(")") or 0), unit))
        if any(unit != "mV" or gain == 0 for gain, _, unit in gains):
            return None
        scaled = [(x.astype(float) - base) / gain for x, (gain, base, _) in zip(data, gains, strict=True)]
        return np.where(data == -32768, np.nan, np.array(scaled))
    except (OSError, ValueError, IndexError):
        return None


def damage(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes of a file."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        # Half of them near the start, where headers are.
        at = int(rng.integers(0, max(1, len(data) if rng.random() < 0.5 else min(len(data), 400))))
        kind = rng.integers(0, 6)
        if kind <= 1 and data:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2 and data:
            data[at] = int(rng.integers(0, 256))
        elif kind == 3:
            del data[at : at + int(rng.integers(1, 40))]
        elif kind == 4:
            data[at:at] = data[max(0, at - int(rng.integers(1, 40))) : at]
        elif rng.random() < 0.3:
            del data[at:]
    return bytes(data)


def check_scale(config: PrepareConfig, found: list[Recording | RecordError], stem: Path) -> None:
    expected = naive_wfdb(stem.with_suffix(".hea"))
    for result in found:
        if expected is not None and isinstance(result, Recording) and len(result.signal) == len(expected):
            assert result.signal.shape == expected.shape
            with np.errstate(over="ignore"):
                np.testing.assert_allclose(result.signal, expected.astype(np.float32), rtol=1e-4, atol=1e-4)


# ---------------------------------------------------------------- many cases


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_refused_or_read_as_they_are(name: str, tmp_path: Path) -> None:
    config = READERS[name].make(tmp_path)
    whole = read(config)
    assert whole and all(isinstance(result, Recording) for result in whole)
    files = sorted(path for path in tmp_path.glob(READERS[name].files) if path.is_file())
    contents = {path: path.read_bytes() for path in files}
    headers = [path for path in files if path.suffix == ".hea"]
    rng = np.random.default_rng(sorted(READERS).index(name))
    accepted = 0
    for case in range(CASES):
        path = files[case % len(files)]
        path.write_bytes(damage(contents[path], rng))
        try:
            found = read(config)
            accepted += any(isinstance(result, Recording) for result in found)
            if headers:
                check_scale(config, found, headers[0])
        except BaseException as error:
            error.add_note(f"case {case} of {path.name}: {path.read_bytes()[:300]!r}")
            raise
        path.write_bytes(contents[path])
    assert 0 < accepted < CASES  # both kinds were tried
