"""Prepare a database once: read, check, resample, cut into segments, write a store, and audit it.

python -m shared.data.prepare configs/data/ptbxl.yaml root=/data/ptb-xl out=data/ptbxl
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
from scipy.signal import resample
from tqdm import tqdm

from shared.config import Choice, config_from_cli, entry_point
from shared.data.audit import make_audit, print_audit
from shared.data.quality import LIMB_MV, amplitudes, flag_amplitudes, flag_leads, is_odd_age
from shared.data.sources import SOURCES
from shared.data.sources.base import BAD_ROW, PROBLEM, PrepareConfig, RecordError, Recording
from shared.data.store import MICROVOLT, ECGStore, StoreError
from shared.data.writer import StoreWriter
from shared.files import clean_up, hold
from shared.leads import LeadError, arrange_leads, limb_residual
from shared.measurements.catalog import VALUES
from shared.measurements.features import extract_features
from shared.signals import FLAT_MV, FS_RANGE, clipped_samples

LEADS_OF = {"flat_lead": "flat_leads"}
"""Where the column of a flag's leads is not called `…_leads`."""
FLOAT16_MAX = float(np.finfo(np.float16).max)


def prepare(config: PrepareConfig) -> ECGStore:
    """Write the store that `config` describes and return it opened.

    An existing store made with the same settings is reused; any other is left alone unless `overwrite` is set.

    Raises:
        StoreError: `out` exists and is something else, or no record could be used.
        UserError: the database is not where `root` says, its tables lack a column, or another process prepares `out`.
    """
    settings = config.model_dump(mode="json", exclude={"workers", "backend", "chunk", "overwrite", "out"})
    if not config.features:  # a store without is the same as it was before features could be asked for
        del settings["features"]
    if config.out.exists() and not config.overwrite:
        return _reuse(config, settings)  # from a place that may be for reading only
    with hold(config.out):
        clean_up(config.out.parent, config.out.name)
        return _prepare(config, settings)


def _prepare(config: PrepareConfig, settings: dict[str, Any]) -> ECGStore:
    if config.out.exists() and not config.overwrite:
        return _reuse(config, settings)  # what a killed process had moved aside
    if config.out.exists() and not (config.out / "store.json").is_file():
        raise StoreError(f"{config.out} exists and is not a store: overwrite=true would delete it. Give another `out`.")
    started = time.perf_counter()
    source = SOURCES[config.source]
    whole = source.index(config).iloc[: config.limit]
    index, left_out = _without_problems(whole)
    num_samples = round(config.seconds * config.fs)
    rows: list[dict[str, Any]] = []
    chunks = [index.iloc[i : i + config.chunk] for i in range(0, len(index), config.chunk)]
    odd = _odd_segments(config, chunks) if "amplitude" in config.exclude else {}
    with StoreWriter(config.out, len(config.leads), num_samples, config.shard, len(config.features)) as writer:
        for signals, features, chunk_rows, chunk_left_out in tqdm(
            _process_all(config, chunks), total=len(chunks), desc=f"prepare {config.source}", unit="chunk", disable=None
        ):
            keep = [(row["record"], row["segment"]) not in odd for row in chunk_rows]
            writer.add(signals[keep], features[keep])
            rows.extend(row for row, kept in zip(chunk_rows, keep, strict=True) if kept)
            left_out.extend(chunk_left_out)
            left_out.extend(odd[key] for key in ((r["record"], r["segment"]) for r in chunk_rows) if key in odd)
        if not rows:
            reasons = "; ".join(f"{item['record']}: {item['detail']}" for item in left_out[:3])
            raise StoreError(f"none of {len(whole)} records could be used. First: {reasons}")
        records = _table(rows, source.LABELS, config.leads)
        seconds = time.perf_counter() - started
        audit = make_audit(records, left_out, len(whole), seconds, source.LABELS, config.features)
        classes = {name: sorted({x for labels in records[name] for x in labels}) for name in source.LABELS}
        meta = {
            "fs": config.fs,
            "leads": list(config.leads),
            "num_samples": num_samples,
            "labels": {name: names for name, names in classes.items() if names},
            "made_by": settings,
            **({"features": list(config.features)} if config.features else {}),
        }
        writer.finish(records, meta, audit)
    print_audit(audit, config.out)
    return ECGStore(config.out)


def _reuse(config: PrepareConfig, settings: dict[str, Any]) -> ECGStore:
    store = ECGStore(config.out)
    if store.meta["made_by"] != settings:
        made_by = store.meta["made_by"]
        other = [key for key in settings.keys() | made_by.keys() if settings.get(key) != made_by.get(key)]
        raise StoreError(
            f"{config.out} exists and was made with other settings ({', '.join(sorted(other))}). "
            "Give another `out`, or overwrite=true."
        )
    print(
        f"{config.out} is already prepared with these settings ({len(store)} segments); overwrite=true makes it anew."
    )
    return store


def _without_problems(index: pd.DataFrame) -> tuple[pd.DataFrame, list[dict[str, str]]]:
    """The rows that can be read, and those whose line in the database's table cannot be used, as left out."""
    if PROBLEM not in index:
        return index.reset_index(drop=True), []
    bad = index[index[PROBLEM] != ""]
    left_out = [
        _left_out({"record": record}, BAD_ROW, f"{record}: {problem}")
        for record, problem in zip(bad.record, bad[PROBLEM], strict=True)
    ]
    return index[index[PROBLEM] == ""].drop(columns=PROBLEM).reset_index(drop=True), left_out


Chunk = tuple[np.ndarray, np.ndarray, list[dict[str, Any]], list[dict[str, str]]]


def _process_all(config: PrepareConfig, chunks: Sequence[pd.DataFrame]) -> Iterator[Chunk]:
    """Chunks in order, computed in parallel; joblib's `dask` backend uses the cluster of the active dask client."""
    if config.backend == "sequential" or len(chunks) == 1:
        yield from (process_chunk(config, chunk) for chunk in chunks)
        return
    with joblib.parallel_config(backend=config.backend, n_jobs=config.workers):
        yield from joblib.Parallel(return_as="generator")(joblib.delayed(process_chunk)(config, c) for c in chunks)


def _odd_segments(config: PrepareConfig, chunks: Sequence[pd.DataFrame]) -> dict[tuple[str, int], dict[str, str]]:
    """Segments whose amplitude is flagged, by record and number, as left out: all must be read before one can be judged."""
    plain = config.model_copy(update={"features": ()})
    rows = [row for _, _, chunk_rows, _ in _process_all(plain, chunks) for row in chunk_rows]
    if not rows:
        return {}
    flagged = flag_amplitudes(np.array([row["amplitudes_mv"] for row in rows]))
    found = {}
    for row, leads in zip(rows, flagged, strict=True):
        if leads.any():
            detail = f"{row['record']} segment {row['segment']}: amplitude in {', '.join(_names(config.leads, leads))}"
            found[row["record"], row["segment"]] = _left_out(row, "amplitude", detail)
    return found


def process_chunk(config: PrepareConfig, index: pd.DataFrame) -> Chunk:
    """Read and check a few records.

    Returns:
        `(signals [n, L, T] int16, features [n, F, T] float16, one row per segment, what was left out and why)`.
    """
    num_samples = round(config.seconds * config.fs)
    signals: list[np.ndarray] = []
    features: list[np.ndarray] = []
    rows: list[dict[str, Any]] = []
    left_out: list[dict[str, str]] = []
    lines = ({str(key): value for key, value in line.items()} for line in index.to_dict("records"))
    for meta, result in zip(lines, SOURCES[config.source].read(config, index), strict=True):
        try:
            if isinstance(result, RecordError):
                raise result
            for segment, ecg, flags in _segments(result, config, num_samples):
                row = {"source": config.source, **meta, **result.info, "segment": segment}
                flags["odd_age"] = is_odd_age(row.get("age"))
                problem = next((f for f in ("nan", *config.exclude) if flags.get(f)), None)
                if problem:
                    what = f"{problem} {row.get('age'):g}" if problem == "odd_age" else problem
                    where = flags.get(LEADS_OF.get(problem, f"{problem}_leads"))
                    detail = f"{what} in {', '.join(where)}" if where else what
                    left_out.append(_left_out(meta, problem, f"{meta['record']} segment {segment}: {detail}"))
                    continue
                quantised = np.clip(np.rint(ecg / MICROVOLT), -32768, 32767).astype(np.int16)
                signals.append(quantised)
                digest = hashlib.blake2b(quantised.data, digest_size=16).hexdigest()
                row |= {"digest": digest, **flags}
                if config.features:
                    channels, measured = _measure(config, quantised)
                    features.append(channels)
                    row |= measured
                rows.append(row)
        except RecordError as error:
            left_out.append(_left_out(meta, error.reason, error.detail))
    stacked = np.stack(signals) if signals else np.empty((0, len(config.leads), num_samples), np.int16)
    channels = np.stack(features) if features else np.empty((len(rows), 0, num_samples), np.float16)
    return stacked, channels, rows, left_out


def _measure(config: PrepareConfig, signal: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """Features of one segment as it is stored, and its columns of records.parquet.

    Args:
        config: which features, the store's rate and leads.
        signal: `[L, T]` int16, µV.

    Returns:
        `(channels [F, T] float16, NaN where missing, columns)`: every name of `VALUES` (NaN where missing), the lead
        measured in, what a reader should know, and the channels without a single sample; all as `feature_…`, since a
        source may have columns of these names.
    """
    try:
        found = extract_features(signal * MICROVOLT, config.fs, config.leads, config.features)
    except Exception as error:  # no record stops the run, whatever a library makes of it
        channels = np.full((len(config.features), signal.shape[1]), np.nan, np.float16)
        note = f"failed: {type(error).__name__}: {error}"
        return channels, _columns(dict.fromkeys(VALUES, float("nan")), "", [note], config.features)
    # mV, ms and bpm lie far inside float16; an artefact beyond must not become infinite.
    channels = np.where(found.valid, np.clip(found.channels, -FLOAT16_MAX, FLOAT16_MAX), np.nan).astype(np.float16)
    missing = [name for name, valid in zip(found.names, found.valid, strict=True) if not valid.any()]
    return channels, _columns(found.values, found.lead, found.notes, missing)


def _columns(
    values: Mapping[str, float], lead: str, notes: Sequence[str], missing: Sequence[str]
) -> dict[str, float | str | list[str]]:
    columns = {f"feature_{name}": value for name, value in values.items()}
    return {**columns, "feature_lead": lead, "feature_notes": list(notes), "feature_missing": list(missing)}


def _left_out(meta: Mapping[str, Any], reason: str, detail: str) -> dict[str, str]:
    return {"record": str(meta["record"]), "reason": reason, "detail": detail}


def _segments(
    recording: Recording, config: PrepareConfig, num_samples: int
) -> Iterator[tuple[int, np.ndarray, dict[str, Any]]]:
    """Consecutive windows of one record at the store's rate, with their quality flags."""
    if not FS_RANGE[0] <= recording.fs <= FS_RANGE[1]:
        low, high = FS_RANGE
        raise RecordError("absurd fs", f"sampling rate {recording.fs:g} Hz; expected {low:g} to {high:g} Hz")
    try:
        ecg, derived = arrange_leads(recording.signal, recording.leads, config.leads)
    except LeadError as error:
        raise RecordError("missing or unknown leads", str(error)) from None
    # Checked over the leads of the file, before any was derived: derived ones obey the identities by construction.
    residual = limb_residual(ecg, [name if name not in derived else "" for name in config.leads])
    length = round(ecg.shape[1] * config.fs / recording.fs)
    if length < num_samples:
        raise RecordError("too short", f"{ecg.shape[1] / recording.fs:.2f} s; a segment takes {config.seconds:g} s")
    valid = np.isfinite(ecg)
    ecg = np.where(valid, ecg, 0.0)
    clipped = clipped_samples(ecg, recording.fs)
    step = recording.fs / config.fs
    resampled = resample(ecg, length, axis=1) if length != ecg.shape[1] else ecg
    for segment in range(length // num_samples):
        window = resampled[:, segment * num_samples : (segment + 1) * num_samples]
        raw = slice(int(segment * num_samples * step), int(np.ceil((segment + 1) * num_samples * step)))
        nan = ~valid[:, raw].all(axis=1)
        flat = np.ptp(ecg[:, raw], axis=1) < FLAT_MV
        cut = clipped[:, raw].any(axis=1) & ~flat
        beyond = np.abs(window).max(axis=1) > 32767 * MICROVOLT
        flags = {
            "nan": bool(nan.any()),
            "nan_leads": _names(config.leads, nan),
            "flat_lead": bool(flat.any()),
            "flat_leads": _names(config.leads, flat),
            "clipped": bool((cut | beyond).any()),
            "clipped_leads": _names(config.leads, cut | beyond),
            "limb": residual > LIMB_MV,  # not where it is NaN: no two leads that could disagree
            "limb_residual_mv": residual,
            "derived_leads": list(derived),
            "amplitudes_mv": amplitudes(ecg[:, raw], recording.fs, flat),
        }
        for name, leads in flag_leads(ecg[:, raw], recording.fs).items():
            flags |= {name: bool((leads & ~flat).any()), f"{name}_leads": _names(config.leads, leads & ~flat)}
        yield segment, window, flags


def _names(leads: Sequence[str], mask: np.ndarray) -> list[str]:
    return [name for name, yes in zip(leads, mask, strict=True) if yes]


def _table(rows: list[dict[str, Any]], labels: Sequence[str], leads: Sequence[str]) -> pd.DataFrame:
    """records.parquet: the common columns first, then labels, quality flags and whatever the source adds."""
    records = pd.DataFrame(rows)
    odd = flag_amplitudes(np.array(records.amplitudes_mv.tolist()))
    records["amplitude"] = odd.any(axis=1).tolist()
    records["amplitude_leads"] = [_names(leads, mask) for mask in odd]
    records = records.drop(columns=["nan", "nan_leads", "path"], errors="ignore")
    first = records.groupby("digest").record.transform("first")
    records["duplicate_of"] = first.where(records.digest.duplicated(), "")
    for name in labels:
        records[name] = [list(x) if isinstance(x, list | tuple | np.ndarray) else [] for x in records[name]]
    lead = ["source", "record", "segment", "patient", "age", "sex", "fold", *labels]
    return records[[*lead, *(c for c in records.columns if c not in lead)]]


choose_config = Choice("source", {name: source.Config for name, source in SOURCES.items()})
"""The config class of the source that the values name."""


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    prepare(config_from_cli(choose_config, argv, "shared.data.prepare"))


if __name__ == "__main__":
    entry_point(main)
