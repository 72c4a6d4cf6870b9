"""Public databases as they lie on a disk: how each is recognised, what reads it, how much of it there should be.

Counts are those of the releases named; the layouts are the publishers'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

COHORTS = {
    "cpsc_2018": 6877,
    "cpsc_2018_extra": 3453,
    "st_petersburg_incart": 74,
    "ptb": 516,
    "ptb-xl": 21837,
    "georgia": 10344,
    "chapman_shaoxing": 10247,
    "ningbo": 34905,
}
"""Folders of the challenge of 2021, and records in each; a download may hold some of them."""


@dataclass(frozen=True)
class Database:
    """One line of the table.

    Attributes:
        title: with the release that the count is of.
        name: of its folder below data/, and of its script: `scripts/data/download_NAME.sh`.
        signs: patterns below its folder; it is this database where all patterns of one of these groups find a file.
        records: how many a whole download holds; None: not known.
        sources: what `prepare` may read it by, the first that there is.
        optional: patterns of folders and files that one may leave out.
        cohorts: folder → records in it, where a download may hold some of several.
    """

    title: str
    name: str
    signs: Sequence[Sequence[str]]
    records: int | None
    sources: Sequence[str]
    optional: Sequence[str] = ()
    cohorts: Mapping[str, int] = field(default_factory=dict)

    def fits(self, root: Path) -> bool:
        """Whether a folder looks like it."""
        return any(all(_finds(root, pattern) for pattern in group) for group in self.signs)

    def fetch(self, root: Path) -> str:
        """The command that brings what is missing or damaged; of no public database, nothing does."""
        return f"bash scripts/data/download_{self.name}.sh out={root}" if self.signs else ""


DATABASES = (
    Database(
        "PTB-XL 1.0.3",
        "ptbxl",
        [["ptbxl_database.csv", "scp_statements.csv"]],
        21799,
        ["ptbxl"],
        optional=("records100", "records500"),
    ),
    Database(
        "PTB-XL+ 1.0.1", "ptbxl_plus", [["labels/ptbxl_statements.csv"], ["features/12sl_features.csv"]], None, []
    ),
    Database("LUDB 1.0.1", "ludb", [["ludb.csv"]], 200, ["ludb"]),
    Database(
        "CODE-15 % 1.0.0",
        "code15",
        [["exams.csv", "exams_part*.hdf5"], ["exams.csv", "*/exams_part*.hdf5"], ["exams.csv", "exams_part*.zip"]],
        345779,
        ["code15"],
        optional=("exams_part*.zip",),
    ),
    Database("CODE-test 1.0.3", "code_test", [["data/ecg_tracings.hdf5"], ["ecg_tracings.hdf5"]], 827, ["code_test"]),
    Database("SPH", "sph", [["metadata.csv", "records/A*.h5"], ["metadata.csv", "records.tar*"]], 25770, ["sph"]),
    Database(
        "MIMIC-IV-ECG 1.0",
        "mimic_iv_ecg",
        [["record_list.csv", "files/p1*"], ["machine_measurements.csv", "files/p1*"]],
        800035,
        ["mimic_iv_ecg", "wfdb_folder"],
    ),
    Database(
        "PhysioNet/CinC Challenge 2021 1.0.3",
        "challenge2021",
        [[f"{folder}{cohort}/g1/*.hea"] for folder in ("training/", "") for cohort in COHORTS],
        None,
        ["challenge2021", "wfdb_folder"],
        optional=(*COHORTS, *(f"training/{cohort}" for cohort in COHORTS)),
        cohorts=COHORTS,
    ),
    Database(
        "Chapman–Shaoxing–Ningbo (ecg-arrhythmia 1.0.0)",
        "chapman_ningbo",
        [["ConditionNames_SNOMED-CT.csv"], ["WFDBRecords/01/010/*.hea"]],
        45152,
        ["chapman_ningbo", "wfdb_folder"],
    ),
    Database(
        "Chapman–Shaoxing (figshare)", "chapman_figshare", [["Diagnostics.xlsx", "ECGData"]], 10646, ["chapman_ningbo"]
    ),
    Database(
        "PhysioNet/CinC Challenge 2017 1.0.0",
        "physionet2017",
        [["training/A00/A00001.hea"], ["training/REFERENCE*.csv"], ["REFERENCE*.csv", "A00001.hea"]],
        8528,
        ["physionet2017", "wfdb_folder"],
        optional=("validation",),
    ),
    Database("MIT-BIH Arrhythmia 1.0.0", "mitbih", [["100.hea", "100.atr"]], 48, ["mitbih", "wfdb_folder"]),
)
WFDB = Database("a tree of WFDB records", "wfdb", (), None, ["wfdb_folder"])
"""What is none of these and has headers."""


def recognise(root: Path, source: str | None = None) -> Database | None:
    """The database that a folder holds; `WFDB` where it holds records of no known one.

    Args:
        root: the folder.
        source: what it is to be read by; one that the table does not name is taken at its word.
    """
    if source is not None and not any(source in one.sources for one in (*DATABASES, WFDB)):
        return Database(f"what source={source} reads", source, (), None, [source])
    return next((one for one in DATABASES if one.fits(root)), None) or (WFDB if _finds(root, "**/*.hea") else None)


def look_around(root: Path) -> tuple[Path, Database] | None:
    """A known database one folder below or above, where the folder itself is none."""
    below = sorted(path for path in root.iterdir() if path.is_dir())
    for path in [*below, root.parent]:
        found = next((one for one in DATABASES if one.fits(path)), None)
        if found is not None:
            return path, found
    return None


def _finds(root: Path, pattern: str) -> bool:
    return next(root.glob(pattern), None) is not None
