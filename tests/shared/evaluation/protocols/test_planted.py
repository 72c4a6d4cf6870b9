"""Every protocol that fits or votes finds what embeddings hold, and finds nothing in embeddings that hold nothing.

Chance is judged by three standard errors of the score where nothing is to be found, from the number of test records.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from shared.data.spec import InputSpec
from shared.evaluation.context import RANDOM
from shared.evaluation.protocols import PROTOCOLS
from shared.leads import LEADS
from tests.shared.evaluation.contexts import NAME, make_context, make_store, truth_and_noise

FOUND = 0.95
PLANTED = (4, 9, 14)  # Hz, one for each class
EMPTY = (6, 7, 11, 12, 16, 17)
CLASSIFIERS = [name for name, protocol in PROTOCOLS.items() if "auroc_macro" in protocol.titles]


class Bands(nn.Module):
    """Embeds how large each of some frequencies is, on the average over the leads it sees.

    Each lead's tokens have a large vector of their own beside it, the same for all records, as position tables give.
    """

    def __init__(self, hertz):
        super().__init__()
        self.input_spec = InputSpec(fs=100, leads=LEADS, num_samples=100)  # 1 s: bin k is k Hz
        self.hertz, self.embed_dim = list(hertz), len(hertz)
        self.place = dict(zip(LEADS, 30 * np.random.default_rng(0).normal(size=(len(LEADS), len(hertz))), strict=True))

    def tokens(self, ecg, leads=None):
        place = torch.tensor(np.stack([self.place[lead] for lead in leads or LEADS])).float()
        return (0.1 * torch.fft.rfft(ecg)[..., self.hertz].abs() + place)[:, :, None]  # [B, L, 1, D]

    def embed(self, ecg, leads=None):
        return self.tokens(ecg, leads).mean(dim=(1, 2))


def write_waves(store, labels):
    """Add to every lead one sine for each class that a record has, twice the size of the noise."""
    path = next(store.path.glob("signals-*.npy"))
    time = np.arange(store.num_samples) / store.fs
    waves = np.sin(2 * np.pi * np.outer(PLANTED, time))  # [C, T]
    noise = np.random.default_rng(1).normal(0, 100, (len(store), len(store.leads), store.num_samples))
    np.save(path, (noise + 200 * (labels @ waves)[:, None]).round().astype(np.int16))


def auroc_error(positives, negatives):
    """Standard error of the AUROC of scores that say nothing (Mann and Whitney 1947)."""
    return np.sqrt((positives + negatives + 1) / (12 * positives * negatives))


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """Signals that hold the classes, seen by an encoder that hears them and by one that listens elsewhere."""
    path = tmp_path_factory.mktemp("waves")
    store, labels = make_store(path / "store", num=600)
    write_waves(store, labels)
    encoders = {NAME: Bands(PLANTED + EMPTY), RANDOM: Bands(EMPTY)}
    settings = {"label_fractions": (0.2, 1.0), "label_draws": 2, "resamples": 20}
    return make_context(path, type(store)(store.path), labels, encoders=encoders, **settings)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classes(waves, name):
    result = PROTOCOLS[name].run(waves)
    truth = waves.labels[waves.split.test]
    positives = truth.sum(axis=0)
    chance = np.sqrt((auroc_error(positives, len(truth) - positives) ** 2).sum()) / truth.shape[1]
    found, noise = (
        {m: s["value"] for m, s in result.scores[row].items() if m.partition("@")[0].endswith("auroc_macro")}
        for row in (NAME, RANDOM)
    )
    assert found and found.keys() == noise.keys()
    assert {m: v for m, v in found.items() if v < FOUND} == {}
    assert {m: v for m, v in noise.items() if abs(v - 0.5) > 3 * chance} == {}


def test_numbers(tmp_path):
    rng = np.random.default_rng(5)
    rate, age, sex = rng.uniform(40, 120, 600), rng.uniform(20, 90, 600), rng.integers(0, 2, 600).astype(float)
    store, labels = make_store(tmp_path / "store", num=600, true_heart_rate=rate, age=age, sex=sex)
    rows = truth_and_noise(labels)
    for i, column in enumerate((rate, age, sex), start=5):
        rows[NAME][:, i] = column * (1 + 0.02 * rng.normal(size=600))
    result = PROTOCOLS["regression"].run(make_context(tmp_path, store, labels, rows))
    found, noise = result.scores[NAME], result.scores[RANDOM]
    for column in ("true_heart_rate", "age"):
        assert found[f"{column}/r2"]["value"] > FOUND and found[f"{column}/pearson"]["value"] > FOUND
        assert abs(noise[f"{column}/pearson"]["value"]) < 3 / np.sqrt(120)
        assert noise[f"{column}/r2"]["value"] < 9 / 120
    assert found["sex/auroc"]["value"] > FOUND
    assert abs(noise["sex/auroc"]["value"] - 0.5) < 3 * auroc_error(60, 60)


def test_patients(tmp_path):
    store, labels = make_store(tmp_path / "store", num=900, per_patient=3)
    rows, rng = truth_and_noise(labels), np.random.default_rng(2)
    rows[NAME] = (rng.normal(size=(300, 8))[np.arange(900) // 3] + 0.1 * rows[RANDOM]).astype(np.float32)
    result = PROTOCOLS["biometrics"].run(make_context(tmp_path, store, labels, rows))
    found, noise = ({m: s["value"] for m, s in result.scores[row].items()} for row in (NAME, RANDOM))
    pairs, records = 60 * 3, 180
    for kind in ("", "wccn/"):
        assert found[f"{kind}eer"] < 1 - FOUND
        assert min(found[f"{kind}{m}"] for m in ("auroc", "tar_at_1_far", "rank_1")) > FOUND
        assert abs(noise[f"{kind}auroc"] - 0.5) < 3 * auroc_error(pairs, 20_000)
        assert abs(noise[f"{kind}eer"] - 0.5) < 3 * 0.25 / np.sqrt(pairs)  # half the error of a share of the pairs
        by_luck = 2 / (records - 1)
        assert noise[f"{kind}rank_1"] < by_luck + 3 * np.sqrt(by_luck / records)


def test_risk(tmp_path):
    pytest.importorskip("lifelines")
    rng = np.random.default_rng(1)
    hazard = rng.normal(size=600)
    time, censored = np.exp(-hazard + 0.05 * rng.normal(size=600)), rng.exponential(10, 600)
    columns = {"time_to_event": np.minimum(time, censored), "event": (time <= censored).astype(int)}
    store, labels = make_store(tmp_path / "store", num=600, **columns)
    rows = truth_and_noise(labels)
    rows[NAME] = rows[RANDOM].copy()
    rows[NAME][:, 0] = hazard
    result = PROTOCOLS["survival"].run(make_context(tmp_path, store, labels, rows))
    n = 120
    assert result.scores[NAME]["c_index"]["value"] > FOUND
    # C is (tau + 1) / 2, and this is the error of Kendall's tau where nothing is censored; here a tenth is.
    chance = 0.5 * np.sqrt(2 * (2 * n + 5) / (9 * n * (n - 1)))
    assert abs(result.scores[RANDOM]["c_index"]["value"] - 0.5) < 3 * chance


def test_groups(tmp_path):
    store, labels = make_store(tmp_path / "store", num=1500)
    result = PROTOCOLS["clusters"].run(make_context(tmp_path, store, labels, truth_and_noise(labels)))
    found, noise = ({m: s["value"] for m, s in result.scores[row].items()} for row in (NAME, RANDOM))
    assert min(found[f"kmeans/{m}"] for m in ("nmi", "ami", "ari")) > FOUND
    assert min(found[f"{kind}/silhouette"] for kind in ("labels", "kmeans")) > 0.7
    assert abs(noise["labels/silhouette"]) < 0.05
    # 2 n times the mutual information of two independent partitions into three is chi-squared with 4 degrees of freedom;
    # the entropy of the classes is about 1.
    n = result.scores[NAME]["kmeans/nmi"]["n"]
    assert n > 100
    assert noise["kmeans/nmi"] < (4 + 3 * np.sqrt(8)) / (2 * n)
    assert max(abs(noise["kmeans/ami"]), abs(noise["kmeans/ari"])) < 3 * np.sqrt(8) / (2 * n)
