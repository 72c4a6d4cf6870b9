"""SNOMED CT codes of the PhysioNet challenges as class names: the 26 scored classes, and PTB-XL's superclasses.

Source: `dx_mapping_scored.csv` of the Challenge 2021's evaluation (30 codes; four pairs are scored as one class each). No
official table leads from SNOMED to PTB-XL's superclasses; `SUPERCLASS` is this project's reading of `scp_statements.csv`.
It names no NORM: sinus rhythm (426783006) is a rhythm, which most records of every superclass have. ST and T findings are
STTC here, while PTB-XL classes only its diagnostic statements on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from shared.data.sources.base import Recording, read_wfdb
from shared.data.sources.headers import parse_comments

LABELS = ("dx", "scored", "superclass")
"""Codes as they stand, classes of the challenge, superclasses."""

SCORED: dict[str, str] = {
    "164889003": "AF",
    "164890007": "AFL",
    "6374002": "BBB",
    "426627000": "Brady",
    "270492004": "IAVB",
    "713426002": "IRBBB",
    "39732003": "LAD",
    "445118002": "LAnFB",
    "164909002": "LBBB",
    "733534002": "LBBB",  # complete
    "164947007": "LPR",
    "251146004": "LQRSV",
    "111975006": "LQT",
    "698252002": "NSIVCB",
    "426783006": "NSR",
    "284470004": "PAC",
    "63593006": "PAC",  # supraventricular premature beats
    "10370003": "PR",
    "365413008": "PRWP",
    "427172004": "PVC",
    "17338001": "PVC",  # ventricular premature beats
    "164917005": "QAb",
    "47665007": "RAD",
    "59118001": "RBBB",
    "713427006": "RBBB",  # complete
    "427393009": "SA",
    "426177001": "SB",
    "427084000": "STach",
    "164934002": "TAb",
    "59931005": "TInv",
}
"""Code → abbreviation. CPSC-2018's ventricular ectopics (164884008) are none of them; PR is a paced rhythm, LPR a long PR."""

SUPERCLASS: dict[str, str] = {
    "164865005": "MI",
    "54329005": "MI",  # anterior
    "57054005": "MI",  # acute
    "428750005": "STTC",  # nonspecific ST-T abnormality
    "164934002": "STTC",  # T wave abnormal
    "59931005": "STTC",  # T wave inversion
    "429622005": "STTC",  # ST depression
    "164931005": "STTC",  # ST elevation
    "55930002": "STTC",  # ST changes
    "111975006": "STTC",  # long QT
    "270492004": "CD",  # AV block I
    "195042002": "CD",  # AV block II
    "27885002": "CD",  # AV block III
    "713426002": "CD",  # incomplete RBBB
    "713427006": "CD",  # complete RBBB
    "59118001": "CD",  # RBBB
    "733534002": "CD",  # complete LBBB
    "164909002": "CD",  # LBBB
    "445118002": "CD",  # left anterior fascicular block
    "445211001": "CD",  # left posterior fascicular block
    "698252002": "CD",  # nonspecific intraventricular conduction disorder
    "74390002": "CD",  # Wolff-Parkinson-White
    "164873001": "HYP",  # left ventricular; its high voltage alone (55827005) is a finding of form
    "89792004": "HYP",  # right ventricular
    "67741000119109": "HYP",  # left atrial
    "446358003": "HYP",  # right atrial
}


def label_sets(codes: Iterable[str]) -> dict[str, list[str]]:
    """The columns `LABELS` of one record: sorted names, each once; a code that a table lacks has no name there."""
    found = sorted(set(codes))
    return {
        "dx": found,
        "scored": sorted({SCORED[code] for code in found if code in SCORED}),
        "superclass": sorted({SUPERCLASS[code] for code in found if code in SUPERCLASS}),
    }


def read_record(path: Path) -> Recording:
    """A WFDB record with what its header's comments say: age, sex, and its codes as the columns `LABELS`.

    Raises:
        RecordError: it cannot be read.
    """
    recording, comments = read_wfdb(path)
    info = parse_comments(comments)
    info |= label_sets(info.get("dx", ()))
    return Recording(recording.signal, recording.fs, recording.leads, info)
