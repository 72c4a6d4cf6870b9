"""Twenty thousand damaged files: no reader crashes or hangs, and what it accepts has the length, leads and scale of its file.

Bytes of every kind of file are changed, cut out, doubled and cut off; WFDB headers are also made up by Hypothesis.
What is then read is either an error that a user can act on or a record that an own reading of the same bytes agrees with.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.data.prepare import without_problems
from shared.data.segments import process_chunk
from shared.data.sources import SOURCES
from shared.data.sources.base import PrepareConfig, RecordError, Recording
from shared.errors import UserError
from tests.shared.data.damaged import READERS, folder

HANG_S = 20.0
CASES = 1200
"""Of every reader."""
HEADERS = 1200
"""Made up."""


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
            if len(headers) == 1:
                check_scale(config, found, headers[0])
        except BaseException as error:
            error.add_note(f"case {case} of {path.name}: {path.read_bytes()[:300]!r}")
            raise
        path.write_bytes(contents[path])
    assert 0 < accepted < CASES  # both kinds were tried


# fmt: off
TOKENS = [
    "a", "a/2", "3", "0", "-1", "12", "100", "250.5", "1e3", "300", "1.5", "99999999", "a.dat", "b.dat", "16", "212", "80", "16x2",
    "16+24", "16:3", "1000.0(0)/mV", "200", "0/mV", "1000/uV", "nan/mV", "-5(3)/V", "I", "II", "V1", "#", "Age:", "~",
]
# fmt: on
"""What a header is made of, right and wrong."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_headers_of_any_making(tmp_path: Path) -> None:
    """Lines of the right and of the wrong words, between lines of a good header."""
    config = folder(tmp_path)
    good = (tmp_path / "a.hea").read_text().splitlines()

    @settings(
        max_examples=HEADERS, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(
        st.lists(
            st.one_of(
                st.sampled_from(good),
                st.lists(st.sampled_from(TOKENS), min_size=1, max_size=9).map(" ".join),
                st.text(max_size=30),
            ),
            max_size=8,
        )
    )
    def check(lines: list[str]) -> None:
        (tmp_path / "a.hea").write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
        check_scale(config, read(config), tmp_path / "a")

    check()


def test_there_are_as_many_cases_as_the_module_says() -> None:
    assert len(READERS) * CASES + HEADERS >= 20_000
