"""Studies from their YAML to their page: tables, conclusions, going on after a stop, and rows that fail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

import shared.evaluation.study.job
from tests.shared.evaluation.study.studies import finish, run_in_process, write_study
from tests.shared.sweep.planted import in_process

TABLES = ("study.csv", "study.md", "study.tex")


FEW = {
    "seeds": [0, 1],
    "rows": {
        name: {"config": "leads.yaml", "set": {"encoder.leads": [name.split()[1]]}} for name in ("lead I", "lead V1")
    },
    "hypotheses": [{"row": "lead V1"}],
    "protocols": ["knn"],
}
"""Of a study: what makes it small."""


def tables_of(out: Path) -> dict[str, str]:
    return {name: (out / name).read_text() for name in TABLES}


def test_study_finds_what_is_there_and_says_what_it_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = run_in_process(monkeypatch)
    path, out = write_study(tmp_path), tmp_path / "study"
    assert finish(path) == 0
    assert len(commands) == 9
    table = pd.read_csv(out / "study.csv")
    scores = table[(table.kind == "score") & (table.measure == "knn/auroc_macro")].set_index("row")
    assert scores.value["lead V1"] > 0.9 > 0.7 > scores.value["lead I"]
    assert (scores.seeds == 3).all() and (scores.n == 20).all()
    assert (scores.low <= scores.value).all() and (scores.value <= scores.high).all()
    claims = table[table.kind.str.startswith("hypothesis")]
    assert claims.verdict.tolist() == ["confirmed", "refuted", "undecided"]
    # Two of the three are equally small, the third is certain to be no difference.
    assert claims.p_holm.tolist() == pytest.approx([3 * claims.p.iloc[0], 3 * claims.p.iloc[0], 1.0])
    assert claims.value.iloc[2] == 0 and claims.sd.iloc[2] == 0
    page, text = (out / "report.html").read_text(), (out / "study.md").read_text()
    last = page.rstrip().split("Conclusions</h2>")[1]
    assert last.count("<li") == 3 and last.rstrip().endswith("</html>")
    assert (
        "lead V1 has a higher kNN AUROC macro than lead I: confirmed" in last
        and "would decide it with 80 % power" in last
    )
    assert "No number of test records" in last
    for said in (page, text):
        assert "hierarchical bootstrap" in said and "by Holm over the 3 hypotheses" in said
        assert "random encoder" in said  # of the outside encoder, in every table
    assert "3 hypotheses: 1 confirmed, 1 refuted, 1 undecided." in capsys.readouterr().out
    latex = (out / "study.tex").read_text()
    assert "lead V1" in latex and r"\toprule" in latex and "random encoder" in latex


def test_a_study_that_was_killed_goes_on_to_the_same_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = run_in_process(monkeypatch)
    path, whole, broken = write_study(tmp_path, **FEW), tmp_path / "whole", tmp_path / "broken"
    assert finish(path, f"out={whole}") == 0
    commands.clear()
    done = 0

    def killed(command: Sequence[str], log: Path, gpu: str | None) -> bool:
        nonlocal done
        done += 1
        if done == 3:
            raise KeyboardInterrupt
        return in_process(command, log, gpu)

    with monkeypatch.context() as during:
        during.setattr(shared.evaluation.study.job, "execute", killed)
        with pytest.raises(KeyboardInterrupt):
            finish(path, f"out={broken}")
    assert not (broken / "report.html").exists()
    assert finish(path, f"out={broken}") == 0
    assert len(commands) == 2  # the one that was interrupted and those after it
    assert tables_of(broken) == tables_of(whole)
    commands.clear()
    assert finish(path, f"out={broken}") == 0
    assert commands == [] and tables_of(broken) == tables_of(whole)
    assert finish(path, f"out={broken}", "seeds=1", "evaluation.resamples=21") == 0
    assert len(commands) == 2  # another evaluation is asked for


def test_a_row_that_fails_stops_no_other_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_process(monkeypatch)
    path, out = write_study(tmp_path, **FEW), tmp_path / "study"

    def run(command: Sequence[str], log: Path, gpu: str | None) -> bool:
        if "V1" in log.name or log.stem == "lead_I-seed-1":
            log.write_text("out of memory\n")
            return False
        return in_process(command, log, gpu)

    monkeypatch.setattr(shared.evaluation.study.job, "execute", run)
    assert finish(path) == 1
    assert "out of memory" in capsys.readouterr().out
    table = pd.read_csv(out / "study.csv")
    scores = table[(table.kind == "score") & (table.measure == "knn/auroc_macro")].set_index("row")
    assert scores.seeds["lead I"] == 1 and "lead V1" not in scores.index
    assert table[table.kind.str.startswith("hypothesis")].verdict.tolist() == ["not judged"]
    page = (out / "report.html").read_text()
    assert "lead V1, seed 0 has no scores: failed, see" in page and "lead I, seed 1 has no scores" in page
    monkeypatch.setattr(
        shared.evaluation.study.job, "execute", lambda c, log, g: "I-seed" not in log.name and in_process(c, log, g)
    )
    assert finish(path) == 1  # what failed is tried again
    table = pd.read_csv(out / "study.csv")
    claim = table[table.kind.str.startswith("hypothesis")].iloc[0]
    assert claim.verdict == "confirmed" and claim.seeds == 1  # paired over the seeds of both


def test_hypotheses_that_come_later_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_in_process(monkeypatch)
    path, out = write_study(tmp_path, **{**FEW, "seeds": [0]}), tmp_path / "study"
    assert finish(path) == 0
    assert "after the study had begun" not in (out / "report.html").read_text()
    assert finish(path, "hypotheses=[{row: lead V1, metric: knn/auprc_macro}]") == 0
    page = (out / "report.html").read_text()
    assert "Declared after the study had begun: lead V1 higher than lead I by knn/auprc_macro." in page
    assert "1 of 1 hypotheses declared at its beginning were taken out." in page
    assert finish(path) == 0 and "after the study had begun" not in (out / "report.html").read_text()


def test_all_rows_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_in_process(monkeypatch)
    monkeypatch.setattr(shared.evaluation.study.job, "execute", lambda _c, log, _g: log.write_text("broken\n") < 0)
    assert finish(write_study(tmp_path)) == 1
    assert "no row has scores" in capsys.readouterr().out and not (tmp_path / "study" / "report.html").exists()


def test_pretraining_then_triplet_then_evaluation(
    synthetic_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages: each tuned row starts from the pretraining of its own seed; its parts and the random encoder stand in the tables."""
    commands = run_in_process(monkeypatch)
    pretrain, triplet, finetune = (tmp_path / f"{name}.yaml" for name in ("pretrain", "triplet", "finetune"))
    finetune.write_text(
        "program: st_mem_modified.finetune\nrun: {out: unused}\ndata: {store: unused}\n"
        "optim: {epochs: 1, batch_size: 80, warmup_epochs: 0}\nnum_crops: 1\n"
    )
    pretrain.write_text(
        "program: st_mem_modified.pretrain\nrun: {out: unused}\ndata: {store: unused}\n"
        "model: {size: tiny, embed_dim: 16, depth: 1, num_heads: 1, head_dim: 16, decoder_dim: 16, decoder_heads: 1,\n"
        "  input: {num_samples: 450}}\noptim: {epochs: 1, batch_size: 80, warmup_epochs: 0}\n"
    )
    triplet.write_text(
        "program: st_mem_modified.triplet\nrun: {out: unused}\ndata: {store: unused}\n"
        "per_class: 8\noptim: {epochs: 1, batch_size: 32, warmup_epochs: 0}\nchoose_k: 5\n"
    )
    path = write_study(
        tmp_path,
        store=str(synthetic_store),
        seeds=[3, 4],
        baseline="plain",
        rows={
            "tuned": {"config": str(triplet), "after": "plain"},
            "plain": {"config": str(pretrain)},
            "classifier": {"config": str(finetune), "after": "plain"},
            "where it started": {"of": "tuned", "part": "untuned encoder"},
            "chance": {"of": "plain", "part": "random encoder"},
        },
        hypotheses=[{"row": "tuned"}, {"row": "where it started"}, {"row": "plain", "than": "chance"}],
        train={"optim.lr": 1e-3, "head.dim": 8},
        evaluation={
            "task": "superclass",
            "protocols": ["knn", "clusters"],
            "min_positives": 1,
            "resamples": 20,
            "set": {"knn.k": 5},
        },
    )  # fmt: skip
    assert finish(path) == 0
    out = tmp_path / "study"
    programs = [str(command[2]).rpartition(".")[2] for command in commands]
    assert programs == ["pretrain", "evaluate"] * 2 + ["triplet", "evaluate"] * 2 + ["finetune"] * 2
    for seed in (3, 4):
        config = (out / "tuned" / f"seed-{seed}" / "config.yaml").read_text()
        assert str(out / "plain" / f"seed-{seed}") in config and f"seed: {seed}" in config and "dim: 8" in config
    table = pd.read_csv(out / "study.csv")
    scores = table[table.kind == "score"].pivot(index="row", columns="measure", values="value")
    rows = list(dict.fromkeys(table[table.kind == "score"].row))
    # A fine-tuning's random row is the same training from random weights: another one than that of the embeddings.
    assert rows == ["tuned", "plain", "classifier", "where it started", "chance", "random encoder"]
    assert scores["finetune/auroc_macro"].notna().tolist() == [
        row in ("classifier", "random encoder") for row in scores.index
    ]
    scores = scores.drop(index=["classifier", "random encoder"]).drop(columns=[c for c in scores if "finetune" in c])
    # What the tuned row's evaluation calls the untuned encoder is the plain row; `chance` is everybody's random encoder.
    pd.testing.assert_series_equal(scores.loc["where it started"], scores.loc["plain"], check_names=False)
    assert scores.notna().all(axis=None) and {"knn/auroc_macro", "clusters/labels/silhouette"} <= set(scores)
    commands.clear()
    assert finish(path) == 0 and commands == []
