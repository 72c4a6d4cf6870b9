"""Signals beyond the twelve leads, from files to scores: a photoplethysmogram in arbitrary units, on one row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import st_mem_modified.config
import st_mem_modified.evaluate
import st_mem_modified.pretrain
from shared.config import load_config
from shared.data.prepare import choose_config, prepare
from shared.data.store import ECGStore, StoreError

FS = 50


def write_ppg(root: Path, number: int = 60) -> list[str]:
    """Pulses of a known rate in counts of a 16-bit converter, a file each, and the table that lists them."""
    rng, time = np.random.default_rng(0), np.arange(10 * FS) / FS
    lines = ["file,person,label,fold"]
    for i in range(number):
        rate = rng.uniform(50, 70) if i % 2 else rng.uniform(90, 110)
        phase = 2 * np.pi * (rate / 60 * time + rng.random())
        pulse = 40_000 + 2_000 * (np.sin(phase) + 0.4 * np.sin(2 * phase + 1)) + rng.normal(0, 50, len(time))
        np.save(root / f"{i}.npy", np.rint(pulse)[None])
        lines.append(f"{i}.npy,p{i},{'slow' if i % 2 else 'fast'},{1 + i // 2 % 10}")
    (root / "table.csv").write_text("\n".join(lines) + "\n")
    return [
        "source=table",
        f"root={root}",
        f"table={root / 'table.csv'}",
        *("path_column=file", "patient_column=person", "label_column=label", "fold_column=fold"),
        *("leads=[PPG]", "file_leads=[PPG]", f"file_fs={FS}", f"fs={FS}", "unit=a.u.", "backend=sequential"),
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ECGStore:
    root = tmp_path_factory.mktemp("ppg")
    return prepare(load_config(choose_config, None, [*write_ppg(root), "scale=2", f"out={root / 'store'}"]))


def test_unit_and_channel_are_facts_of_the_store(store: ECGStore) -> None:
    assert (store.leads, store.unit, store.scale, store.fs) == (("PPG",), "a.u.", 2.0, float(FS))
    raw = np.load(store.path.parent / "3.npy")
    np.testing.assert_allclose(store[3] * store.scale, raw, atol=1.0)
    for flag in ("amplitude", "offset", "clipped", "flat_lead", "noise", "limb"):
        assert not store.records[flag].any(), flag


def test_other_units_need_a_scale(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="signals in a.u. need `scale`"):
        load_config(choose_config, None, [*write_ppg(tmp_path, 2), f"out={tmp_path / 'out'}"])


def test_a_model_of_another_channel_is_refused(store: ECGStore, tmp_path: Path) -> None:
    settings = [
        f"data.store={store.path}",
        f"run.out={tmp_path / 'run'}",
        f"model.input.fs={FS}",
        "model.input.lowpass=8",
    ]
    config = load_config(st_mem_modified.config.PretrainConfig, None, [*settings, "model.input.leads=[ABP]"])
    with pytest.raises(StoreError, match="ABP are not among PPG"):
        st_mem_modified.pretrain.pretrain(config)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_one_row_is_trained_and_evaluated(store: ECGStore, tmp_path: Path) -> None:
    out = tmp_path / "run"
    settings = [
        f"data.store={store.path}",
        f"run.out={out}",
        "model.input.leads=[PPG]",
        f"model.input.fs={FS}",
        "model.input.lowpass=8",
    ]
    tiny = ["model.size=tiny", "model.depth=1", "model.input.seconds=8", "model.patch_size=25", "optim.epochs=1"]
    config = load_config(
        st_mem_modified.config.PretrainConfig, None, [*settings, *tiny, "optim.batch_size=16", "optim.warmup_epochs=0"]
    )
    st_mem_modified.pretrain.pretrain(config)
    st_mem_modified.evaluate.main(
        [
            "configs/test/st_mem_inference.yaml",
            *(f"store={store.path}", f"encoder.weights={out}", f"out={tmp_path / 'scores'}", "task=labels"),
            "protocols=[knn,linear_probe,robustness,quality]",
        ]
    )
    page = (tmp_path / "scores" / "report.html").read_text()
    assert "baseline wander left out, the store is in a.u." in page
