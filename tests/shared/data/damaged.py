"""Small databases of every source, and one file of every format, for a test to damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import wfdb

from shared.data.sources import SOURCES
from shared.data.sources.base import PrepareConfig
from shared.data.sources.ludb import COLUMNS
from shared.leads import INDEPENDENT_LEADS
from tests.shared.data import test_code_test, test_mimic_iv_ecg, test_sph
from tests.shared.data.format_files import UV_PER_BIT, write_dicom, write_edf, write_muse
from tests.shared.data.wfdb_records import draw_ecg

FS, SAMPLES = 100, 300
FEW = ("I", "II", "V1")
"""What is read of a file costs by the lead."""
SECONDS = 2.0


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


def code_test(root: Path) -> PrepareConfig:
    test_code_test.write_tree(root, [np.tile(signals(), (1, 4)) for _ in range(3)])
    return SOURCES["code_test"].Config(root=root, out=root / "out", **COMMON)


def sph(root: Path) -> PrepareConfig:
    test_sph.write_tree(root, [np.tile(signals(), (1, 4))], {"A00001": "60+310;147,S00001,55,M,{n},2020-03-04"})
    return SOURCES["sph"].Config(root=root, out=root / "out", **COMMON)


def mimic(root: Path) -> PrepareConfig:
    test_mimic_iv_ecg.write_tree(root, [np.tile(signals(), (1, 4))] * 3)
    return SOURCES["mimic_iv_ecg"].Config(root=root, out=root / "out", **COMMON)


def table(name: str, write: Callable[[Path], object], **options: Any) -> Callable[[Path], PrepareConfig]:
    def make(root: Path) -> PrepareConfig:
        write(root / name)
        (root / "table.csv").write_text(f"path,age\n{name},50\n")
        settings = {"table": root / "table.csv", "age_column": "age", **COMMON, **options}
        return SOURCES["table"].Config(root=root, out=root / "out", **settings)

    return make


def write_hdf5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["ecg"] = signals(3)


ARRAY = {"file_fs": FS, "file_leads": FEW, "unit": "mV"}
EIGHT = np.rint(draw_ecg(3, SAMPLES)[[0, 1, *range(6, 12)]] * 1000 / UV_PER_BIT).astype(np.int16)
TABLES: dict[str, Callable[[Path], PrepareConfig]] = {
    "npy": table("a.npy", lambda path: np.save(path, signals(3)), **ARRAY),
    "npz": table("a.npz", lambda path: np.savez(path, x=signals(3)), **ARRAY),
    "h5": table("a.h5", write_hdf5, **ARRAY),
    "edf": table(
        "a.edf", lambda path: write_edf(path, [(n, "uV", FS, 1000 * x) for n, x in zip(FEW, signals(3), strict=True)])
    ),
    "xml": table("a.xml", lambda path: write_muse(path, EIGHT, fs=str(FS))),
    "dcm": table("a.dcm", lambda path: write_dicom(path, 1000 * signals(3), list(FEW), FS)),
}
assert len(EIGHT) == len(INDEPENDENT_LEADS)

READERS: dict[str, Reader] = {
    "wfdb_folder": Reader(folder, "a.*"),
    "challenge2021": Reader(challenge, "georgia/g1/E00001.*"),
    "ptbxl": Reader(ptbxl, "**/*.*"),
    "code15": Reader(code15, "exams*"),
    "ludb": Reader(ludb, "**/*.*"),
    "mitbih": Reader(mitbih, "100.*"),
    "physionet2017": Reader(physionet2017, "**/*.*"),
    "code_test": Reader(code_test, "data/**/*.*"),
    "sph": Reader(sph, "**/*.*"),
    "mimic_iv_ecg": Reader(mimic, "**/*.*"),
    **{f"table_{kind}": Reader(make, f"a.{kind}") for kind, make in TABLES.items()},
}
