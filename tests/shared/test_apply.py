"""`python -m shared.apply`: files of every kind to one table; what is bad in a folder is named and stops nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from shared.apply import SHOWN, main
from shared.checkpoints import save_weights
from shared.config import REPO_ROOT
from shared.data.store import ECGStore
from shared.embeddings import embed_store
from shared.errors import UserError
from shared.leads import LEADS
from st_mem_modified.config import ModelConfig
from st_mem_modified.model import STMEM
from tests.shared.data.wfdb_records import write_record
from tests.shared.evaluation.contexts import make_store

SIZE = {"embed_dim": 16, "depth": 1, "num_heads": 1, "head_dim": 16, "decoder_dim": 16, "decoder_depth": 1}
FOUND = np.arange(6)
OUTSIDE = """
class Spread:
    input_spec = {"fs": 100, "seconds": 2, "leads": ["V1", "I"]}
    def embed(self, ecg):
        return ecg.std(-1)
"""


@pytest.fixture(scope="module")
def model() -> STMEM:
    torch.manual_seed(0)
    return STMEM(ModelConfig.model_validate({**SIZE, "decoder_heads": 1, "input": {"num_samples": 900}})).eval()


@pytest.fixture(scope="module")
def weights(model: STMEM, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("w") / "model.safetensors"
    save_weights(path, model.state_dict(), "st_mem", {"model": model.config.model_dump(mode="json")})
    return path


@pytest.fixture(scope="module")
def store(synthetic_store: Path) -> ECGStore:
    return ECGStore(synthetic_store)


@pytest.fixture(scope="module")
def expected(model: STMEM, store: ECGStore) -> np.ndarray:
    return embed_store(model.encoder, store, FOUND)


@pytest.fixture
def folder(store: ECGStore, tmp_path: Path) -> Path:
    """Records 0 to 5 in four kinds of file."""
    ecg = store.read(FOUND) / 1000  # mV
    root = tmp_path / "mine"
    (root / "deeper").mkdir(parents=True)
    for i in (0, 1):
        write_record(root, f"r{i}", ecg[i])
    np.save(root / "s2.npy", ecg[2])
    np.savez(root / "deeper" / "s3.npz", ecg=ecg[3:5], fs=250)
    order = list(reversed(LEADS))
    pd.DataFrame(ecg[5].T, columns=LEADS)[order].rename_axis("sample").to_csv(root / "s5.csv")
    return root


def numbers(table: pd.DataFrame) -> np.ndarray:
    return table.filter(regex=r"^e\d{4}$").to_numpy()


def run(weights: Path, source: Path, out: Path, *more: str) -> pd.DataFrame:
    main([f"weights={weights}", f"input={source}", f"out={out}", *more])
    return pd.read_csv(out) if out.suffix == ".csv" else pd.read_parquet(out)


def test_a_store(weights: Path, store: ECGStore, expected: np.ndarray, tmp_path: Path) -> None:
    whole = run(weights, store.path, tmp_path / "e.parquet")
    assert whole.record.tolist() == store.records.record.tolist() and "segment" in whole
    np.testing.assert_allclose(numbers(whole)[FOUND], expected, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_folder_of_all_kinds(
    weights: Path, folder: Path, expected: np.ndarray, tmp_path: Path, batch_size: int
) -> None:
    found = run(weights, folder, tmp_path / "new" / "e.csv", "fs=250", f"batch_size={batch_size}")
    names = [("deeper/s3.npz", 0), ("deeper/s3.npz", 1), ("r0", 0), ("r1", 0), ("s2.npy", 0), ("s5.csv", 0)]
    assert list(zip(found.record, found.row, strict=True)) == names
    np.testing.assert_allclose(numbers(found), expected[[3, 4, 0, 1, 2, 5]], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "rows"),
    [("s2.npy", [2]), ("deeper/s3.npz", [3, 4]), ("s5.csv", [5]), ("r1.hea", [1]), ("r1", [1])],
)
def test_one_file(
    weights: Path, folder: Path, expected: np.ndarray, tmp_path: Path, name: str, rows: list[int]
) -> None:
    found = run(weights, folder / name, tmp_path / "e.parquet", "fs=250")
    np.testing.assert_allclose(numbers(found), expected[rows], atol=1e-4)


@pytest.mark.parametrize(
    "text",
    [
        lambda ecg: "\n".join(",".join(map(str, row)) for row in ecg.T),
        lambda ecg: "\n".join("; ".join(map(str, row)) for row in ecg),
        lambda ecg: pd.DataFrame(ecg.T).to_csv(),
        lambda ecg: pd.DataFrame(ecg.T).to_csv(index=False),
        lambda ecg: "time\t" + "\t".join(map(str.lower, LEADS)) + "\n"
        + "\n".join("0\t" + "\t".join(map(str, row)) for row in ecg.T),
    ],
)  # fmt: skip
def test_tables_of_text(weights, store, expected, tmp_path, text) -> None:
    (tmp_path / "x.csv").write_text(text(store.read([0])[0]))
    found = run(weights, tmp_path / "x.csv", tmp_path / "e.parquet", "fs=250", "unit=uV")
    np.testing.assert_allclose(numbers(found), expected[:1], atol=1e-5)


def test_leads_of_an_array_are_the_columns_of_a_nameless_table(weights: Path, store: ECGStore, tmp_path: Path) -> None:
    two = store.read([0])[0, :2]
    np.save(tmp_path / "x.npy", two)
    np.savetxt(tmp_path / "x.csv", two.T, delimiter=",")
    one, other = (
        run(weights, tmp_path / name, tmp_path / "e.parquet", "fs=250", "unit=uV", "leads=i,ii")
        for name in ("x.npy", "x.csv")
    )
    np.testing.assert_array_equal(numbers(one), numbers(other))


def test_what_is_bad_in_a_folder_is_named(
    weights: Path, folder: Path, store: ECGStore, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_record(folder, "short", store[0][:, :300] / 1000)
    (folder / "r9.hea").write_bytes((folder / "r0.hea").read_bytes()[:10])
    (folder / "notes.csv").write_text("who,what\na,b\n")
    (folder / "flipped.npy").write_bytes((folder / "s2.npy").read_bytes()[:-999])
    many = np.repeat(store.read([0]) / 1000, 8, axis=0)
    many[3, 0, 5] = np.nan
    many[5, 4] = 0
    np.save(folder / "many.npy", many)
    np.save(folder / "turned.npy", many.swapaxes(1, 2))
    np.save(folder / "microvolt.npy", store.read(np.arange(SHOWN)))
    found = run(weights, folder, tmp_path / "e.parquet", "fs=250")
    said = capsys.readouterr().out
    for line in (
        "left out flipped.npy: it cannot be read",
        "left out many.npy, row 3: x holds NaN or infinity",
        "many.npy, row 5: flat in aVL",
        "left out microvolt.npy: a lead of x moves by",
    ):
        assert line in said
    assert "… and 6 more" in said and f"13 embeddings of 16 numbers; {SHOWN + 6} left out" in said
    left = pd.read_csv(tmp_path / "e.left_out.csv")
    assert set(left.record) == {"flipped.npy", "many.npy", "microvolt.npy", "notes.csv", "r9", "short", "turned.npy"}
    assert left.reason.str.contains("it is transposed").sum() == 1
    assert found.record.tolist().count("many.npy") == 7
    assert found.row[found.record == "many.npy"].tolist() == [0, 1, 2, 4, 5, 6, 7]
    run(weights, folder / "r0.hea", tmp_path / "e.parquet")
    assert not (tmp_path / "e.left_out.csv").exists()


def test_files_without_a_rate(weights: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    found = run(weights, folder, tmp_path / "e.parquet")
    assert found.record.tolist() == ["deeper/s3.npz", "deeper/s3.npz", "r0", "r1"]
    assert "passed over 2 .npy and .csv files, which do not say their rate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("s2.npy", [], "s2.npy: fs is not set: give its sampling rate"),
        ("arrays", [], "fs is not set: the 1 files of .* do not say their sampling rate"),
        ("nothing", [], "nothing does not exist; expected a folder, a store, or a file"),
        ("r0.dat.txt", [], "is no file that is read here"),
        ("empty", [], r"holds no file \*.hea, \*.npy"),
        ("s2.npy", ["fs=250", "unit=uV"], "no record of .* could be embedded; the first, s2.npy: a lead of x moves"),
        ("r0", ["out=e.txt"], "out is e.txt; expected a name that ends in .parquet or .csv"),
        ("r0", ["leads=I,aVX"], "unknown lead 'aVX'; did you mean 'aVR'"),
        ("r0", ["unit=kV"], "unit"),
        ("r0", ["device=gpu"], "'gpu' is not a device"),
        ("r0", ["module=a:b"], "give the encoder: weights=RUN_OR_FILE, or module="),
    ],
)
def test_what_cannot_be_right_is_refused(
    weights: Path, folder: Path, tmp_path: Path, name: str, more: list[str], message: str
) -> None:
    (folder / "empty").mkdir()
    (folder / "arrays").mkdir()
    (folder / "r0.dat.txt").write_text("x")
    np.save(folder / "arrays" / "x.npy", np.zeros((12, 1250)))
    with pytest.raises(UserError, match=message):
        main([f"weights={weights}", f"input={folder / name}", f"out={tmp_path / 'e.parquet'}", *more])
    assert not (tmp_path / "e.parquet").exists()


def test_fewer_leads_are_said(
    weights: Path, store: ECGStore, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A column whose name is no lead is passed over, and nobody would see that three leads were meant."""
    pd.DataFrame(store[0][[0, 1, 7]].T / 1000, columns=["I", "V1", "Lead V2"]).to_csv(folder / "some.csv", index=False)
    found = run(weights, folder, tmp_path / "e.parquet", "fs=250")
    assert "1 embedded from I, V1 alone, as they have no more (first: some.csv)" in capsys.readouterr().out
    few, _ = make_store(tmp_path / "few", num=3, fs=250, num_samples=900, leads=("V1", "I"))
    assert len(run(weights, few.path, tmp_path / "e.parquet")) == 3
    assert "embedded from I, V1 alone, as the store has no more" in capsys.readouterr().out
    assert len(found) == 7


def test_an_outside_encoder_that_takes_all_leads_leaves_out_what_has_fewer(
    store: ECGStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "all_or_none.py").write_text(OUTSIDE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    write_record(folder, "one", store[0][:1] / 1000, leads=["I"])
    main([f"input={folder}", f"out={tmp_path / 'e.csv'}", "module=all_or_none:Spread"])
    assert pd.read_csv(tmp_path / "e.csv").record.tolist() == ["deeper/s3.npz", "deeper/s3.npz", "r0", "r1"]
    assert pd.read_csv(tmp_path / "e.left_out.csv").values.tolist() == [
        ["one", 0, "it has I of the encoder's leads, and the encoder takes all of them only."]
    ]


def test_an_outside_encoder_of_another_rate(
    store: ECGStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "from_outside.py").write_text(OUTSIDE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    tables = []
    for source in (store.path, folder / "r0.hea"):
        main([f"input={source}", f"out={tmp_path / 'e.parquet'}", "module=from_outside:Spread"])
        tables.append(numbers(pd.read_parquet(tmp_path / "e.parquet")))
    middle = store[0][[LEADS.index("V1"), LEADS.index("I")], 375:875] / 1000
    np.testing.assert_allclose(tables[0][0], middle.std(-1), rtol=0.05)
    np.testing.assert_allclose(tables[0][:1], tables[1], atol=1e-3)


def test_a_killed_run_leaves_no_table(weights: Path, folder: Path, tmp_path: Path) -> None:
    """Killed while it writes: the table before stays whole, and the next run is not in its way."""
    out = tmp_path / "e.parquet"
    out.write_bytes(b"the table before")
    code = (
        "import os, signal, sys, pandas as pd\n"
        "whole = pd.DataFrame.to_parquet\n"
        "def half(table, path, **options):\n"
        "    whole(table, path, **options)\n"
        "    path.write_bytes(path.read_bytes()[:100])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "pd.DataFrame.to_parquet = half\n"
        "from shared.apply import main\n"
        "main(sys.argv[1:])\n"
    )
    arguments = [f"weights={weights}", f"input={folder / 'r0.hea'}", f"out={out}"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=REPO_ROOT, capture_output=True, timeout=120)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert out.read_bytes() == b"the table before"
    assert len(run(weights, folder / "r0.hea", out)) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["e.parquet"]


def test_ctrl_c_leaves_nothing_half_written(
    weights: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("shared.apply.embed_windows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(weights, folder, tmp_path / "e.parquet", "fs=250")
    assert not list(tmp_path.glob("*e.parquet*"))
