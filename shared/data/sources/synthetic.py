"""The embedded default: synthetic ECG with known truth (see `shared.data.synthetic`). Needs no download."""

from __future__ import annotations

from typing import Literal

import pandas as pd
from pydantic import Field

from shared.data import synthetic
from shared.data.sources.base import PrepareConfig, RecordError, Recording
from shared.leads import LEADS

LABELS = ("superclass",)


class Config(PrepareConfig):
    """Options of the source `synthetic`."""

    source: Literal["synthetic"] = "synthetic"
    num_records: int = Field(2000, ge=1)
    records_per_patient: int = Field(1, ge=1)
    seed: int = Field(0, ge=0)
    seconds: float = Field(10.0, ge=synthetic.MIN_DURATION, description="length of a record, s")


def index(config: Config) -> pd.DataFrame:
    """One row per record with the parameters it is rendered from.

    `patient000007` of another draw is somebody else, so the draw is part of the source's name.
    """
    table = synthetic.draw_patients(config.num_records, config.seed, config.records_per_patient)
    table["source"] = f"synthetic-{config.num_records}x{config.records_per_patient}-seed{config.seed}"
    return table.rename(columns={"strat_fold": "fold"})


def read(config: Config, rows: pd.DataFrame) -> list[Recording | RecordError]:
    """Render these rows; each record depends on its own seed alone, so the chunking changes nothing."""
    batch = synthetic.render(rows, fs=config.fs, duration=config.seconds)
    truth = batch.truth.add_prefix("true_").to_dict("records")
    return [
        Recording(ecg, config.fs, LEADS, {**{str(k): v for k, v in values.items()}, "true_r_peaks": peaks.tolist()})
        for ecg, values, peaks in zip(batch.ecg, truth, batch.r_peaks, strict=True)
    ]
