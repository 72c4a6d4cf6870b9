"""ECG in whatever form somebody has it gives the same windows; what cannot be right, or is odd, is said."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from shared import embed
from shared.data.arrays import windows_of
from shared.data.spec import InputSpec
from shared.data.synthetic import draw_patients, render
from shared.errors import UserError
from shared.leads import LEADS

SPEC = InputSpec(fs=250, seconds=4)
TRUTH = render(draw_patients(4, seed=3), fs=500, duration=5)
ECG = TRUTH.ecg.astype(np.float64)  # mV


def windows(x: Any, leads: Any = None, unit: str = "mV", fs: Any = 500, num_crops: int = 1) -> np.ndarray:
    made, _ = windows_of(SPEC, x, fs, leads, unit, num_crops)
    return made.numpy()


EXPECTED = windows(ECG)
MICROVOLT = np.rint(ECG * 1000)
COLUMNS = ["avl", *[name for name in reversed(LEADS) if name != "aVL"]]
TABLE = pd.DataFrame({name: ECG[1, [lead.lower() for lead in LEADS].index(name.lower())] for name in COLUMNS})


def test_windows_have_the_encoders_rate_and_length() -> None:
    assert EXPECTED.shape == (4, 1, 12, 1000) and EXPECTED.dtype == np.float32
    np.testing.assert_allclose(EXPECTED[:, 0, :, 5:-5], ECG[:, :, 250:2250:2][..., 5:-5], atol=0.08)
    several = windows(ECG, num_crops=3)
    np.testing.assert_array_equal(several[:, 1], EXPECTED[:, 0])


@pytest.mark.parametrize(
    ("x", "values", "expected"),
    [
        (ECG[2], {}, EXPECTED[2:3]),
        (list(ECG), {}, EXPECTED),
        (tuple(torch.from_numpy(one) for one in ECG), {}, EXPECTED),
        (ECG[:1].tolist(), {}, EXPECTED[:1]),
        (torch.from_numpy(ECG).requires_grad_(), {}, EXPECTED),
        (ECG, {"fs": "500"}, EXPECTED),
        (ECG, {"fs": np.int64(500)}, EXPECTED),
        (MICROVOLT.astype(np.int16), {"unit": "uV"}, EXPECTED),
        (torch.from_numpy(MICROVOLT.astype(np.int32)), {"unit": "\N{MICRO SIGN}V"}, EXPECTED),
        (MICROVOLT, {"unit": "\N{GREEK SMALL LETTER MU}V"}, EXPECTED),
        (torch.from_numpy(ECG).bfloat16(), {}, EXPECTED),
        (TABLE, {}, EXPECTED[1:2]),
        (TABLE.assign(time=np.arange(2500) / 500), {"leads": LEADS}, EXPECTED[1:2]),
    ],
)
def test_every_form_gives_the_same(x: Any, values: dict[str, Any], expected: np.ndarray) -> None:
    atol = 0.02 if isinstance(x, torch.Tensor) and x.dtype == torch.bfloat16 else 2e-3
    np.testing.assert_allclose(windows(x, **values), expected, atol=atol)


def test_records_of_several_lengths() -> None:
    found = windows([ECG[0], ECG[1][:, 100:2400], ECG[2]])
    np.testing.assert_allclose(found[[0, 2]], EXPECTED[[0, 2]])
    assert np.abs(found[1] - windows(ECG[1][:, 100:2400])[0]).max() == 0


@pytest.mark.parametrize(
    ("x", "values", "message"),
    [
        ([ECG[0], ECG[1][:, :1900]], {}, "record 1 has 3.80 s, the encoder takes 4 s"),
        ([ECG[0], ECG[1].T], {}, r"record 1 of x has shape \[2500, 12\] for 12 leads .* transposed"),
        (ECG[:, 0], {"leads": "I"}, r"\[4, 2500\] for 1 leads \(I\): records of one lead are \[records, 1, samples\]"),
        ("ecg.npy", {}, "x is no array of numbers"),
        ([[1, 2], [3]], {}, "x is no array of numbers"),
        ([], {}, r"x has shape \[0\]; expected"),
        (ECG, {"fs": "500 Hz"}, "fs is '500 Hz'; expected the sampling rate in Hz"),
        (ECG, {"fs": None}, "fs is None"),
        (ECG, {"fs": float("nan")}, "fs is nan Hz; expected 50"),
        (ECG, {"unit": "uVolt"}, r"unknown unit 'uVolt'; did you mean 'uV'\? Expected mV, uV or V"),
        (np.concatenate([ECG, 0 * ECG[:1]]), {}, "1 of 5 records hold no ECG: all leads are flat; the first is 4"),
        (TABLE.rename(columns={"V1": "channel 1"}), {}, "unknown lead 'channel 1'.*name those to take in `leads`"),
        (TABLE[["II"]], {"leads": "I,II"}, "x has no column I; its columns are II"),
    ],
)
def test_what_cannot_be_right_is_refused(x: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        windows(x, **values)


def test_flat_leads_and_odd_records_are_named() -> None:
    x = ECG.copy()
    x[2, [6, 7]] = 0.3
    with pytest.warns(UserWarning, match="1 of 4 records are odd; the first, 2, is flat in V1, V2"):
        windows(x)
    with pytest.warns(UserWarning, match="^flat in V1, V2"):
        windows(x[2])
    x = ECG.copy()
    x[3] *= 1000
    with pytest.warns(UserWarning, match=r"1 of 4 records are odd; the first, 3, is moving by [\d.e+]+ mV"):
        windows(x)


def test_measurements_are_rows_below_the_leads() -> None:
    """Measured on the whole record before it is cut, as a store has them."""
    spec = InputSpec(fs=250, seconds=4, leads="V1,I", features=("heart_rate", "sdnn"))
    made, subset = windows_of(spec, ECG, 500, None, "mV", 1)
    assert made.shape == (4, 1, 4, 1000) and subset is None
    np.testing.assert_array_equal(made[:, :, :2], EXPECTED[:, :, [LEADS.index("V1"), LEADS.index("I")]])
    rates = np.nanmedian(made[:, 0, 2], axis=-1)
    np.testing.assert_allclose(rates, TRUTH.truth.heart_rate, rtol=0.08)


class Deviations:
    """An outside encoder as somebody writes it: no module, a dict for its input, another rate and order."""

    input_spec: Any = {"fs": 400, "seconds": 3, "leads": ["V1", "I"]}  # noqa: RUF012
    broken = False

    def embed(self, ecg: torch.Tensor) -> torch.Tensor:
        return ecg.std(-1) / (0 if self.broken and len(ecg) > 1 else 1)


def test_an_outside_encoder_embeds_arrays() -> None:
    found = embed(Deviations(), ECG, 500)
    middle = ECG[:, [LEADS.index("V1"), LEADS.index("I")], 500:2000]
    np.testing.assert_allclose(found, middle.std(-1), rtol=0.02)
    with pytest.raises(UserError, match="Deviations: embed.ecg. takes all of its leads"):
        embed(Deviations(), ECG[:, :1], 500, "I")
    with pytest.raises(UserError, match="load the encoder first: load_encoder"):
        embed("runs/st_mem", ECG, 500)
    with pytest.raises(UserError, match="num_crops 0 and batch_size 64: expected 1 or more"):
        embed(Deviations(), ECG, 500, num_crops=0)
    encoder = Deviations()
    encoder.broken = True
    with pytest.raises(UserError, match="4 of 4 embeddings hold NaN or infinity"):
        embed(encoder, ECG, 500)
