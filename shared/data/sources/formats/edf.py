"""EDF, EDF+ and BDF (Kemp et al. 1992, 2003), read by edfio."""

from __future__ import annotations

from pathlib import Path

from shared.data.sources.base import RecordError
from shared.data.sources.formats.channels import Channel
from shared.errors import UserError
from shared.leads import is_lead


def read_edf(path: Path, dataset: str | None) -> list[Channel]:
    """All signals but the annotations, in their physical unit; `ECG II`, EDF+'s name of a lead, is II."""
    try:
        import edfio
    except ImportError:
        raise UserError(f'{path} is EDF: pip install -e ".[formats]" brings what reads it.') from None
    if dataset is not None:
        raise RecordError("no such data set", f"{path} is EDF, which has no data set {dataset}")
    try:
        read = edfio.read_bdf if path.suffix.lower() == ".bdf" else edfio.read_edf
        return [
            Channel(
                signal.data, _name(signal.label), float(signal.sampling_frequency), signal.physical_dimension or None
            )
            for signal in read(path).signals
        ]
    except Exception as error:  # edfio raises many kinds for a damaged file
        raise RecordError("unreadable signal", f"{path}: {type(error).__name__}: {error}") from None


def _name(label: str) -> str:
    kind, _, rest = label.strip().partition(" ")
    return rest.strip() if kind.upper() in ("ECG", "EKG") and is_lead(rest) else label.strip()
