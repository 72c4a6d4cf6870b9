"""Every point is checked before the first is run: settings, data, validation records, and what ranks them."""

from __future__ import annotations

from pathlib import Path

import pytest

import shared.evaluation.study.job
from shared.errors import UserError
from shared.evaluation.protocols import PROTOCOLS
from shared.evaluation.ranking import find_measure, metrics_of
from shared.sweep.__main__ import main
from shared.sweep.check import check_points
from shared.sweep.grid import parse
from tests.shared.sweep.planted import sweep_of


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was started."""
    seen: list[object] = []

    def execute(command: object, log: Path, gpu: str | None) -> bool:
        seen.append(command)
        log.write_text("")
        return False

    monkeypatch.setattr(shared.evaluation.study.job, "execute", execute)
    return seen


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["knn.k=1,2,3,0"], r"1 of 4 points cannot run, so nothing was started. k=0: [^$]*knn.k: .*greater"),
        (["knn.kk=1,2"], r"2 of 2 points .* k?k=1: .*unknown key 'knn.kk'; did you mean 'knn.k'.* as well: kk=2"),
        (["encoder.weights=null,runs/no"], "weights=runs_no: encoder.weights .*runs/no does not exist"),
        (["task=kind,sort"], "task=sort: .*sort"),
        (["val_folds=[9],[11]"], r"val_folds=_11_: val_folds \[11\] hold no record with a label of task 'kind'"),
        (
            ["val_folds=[9],[9,10]", "test_folds=[8]", "train_folds=[1]"],
            "would be scored on different validation records",
        ),
        (["knn.k=1,2", "store=nowhere"], "2 of 2 points .*nowhere is not a store"),
        (["knn.k=1,2", "protocols=[knn,clsters]"], "unknown protocol clsters; did you mean 'clusters'"),
        (
            ["knn.k=1,2", "protocols=[quality]"],
            r"\(quality\) scores the validation records.*add one of knn, knn_cosine",
        ),
        (["protocols=[knn],[clusters]"], "no protocol that all evaluations run"),
        (
            ["knn.k=1,2", "choose=clusters/kmeans/nmi"],
            "'clusters' is no protocol .* all evaluations run.*protocol of knn",
        ),
        (["knn.k=1,2", "choose=knn/aurok"], "knn has no metric 'aurok' on validation; did you mean 'auroc_macro'"),
        (["knn.k=1,2", "choose=knn/auroc/C"], r"class 'C' has no score on validation \(unknown\)"),
        (["knn.k=1,2", "min_positives=50"], "no class can be scored"),
    ],
)
def test_nothing_is_started_where_a_point_cannot_run(
    settings: list[str], message: str, tmp_path: Path, started: list[object]
) -> None:
    with pytest.raises(UserError, match=message):
        main(sweep_of(tmp_path, *settings))
    assert started == [] and not (tmp_path / "sweep").exists()


def test_a_training_and_the_evaluation_that_scores_it_are_checked(
    synthetic_store: Path, tmp_path: Path, started: list[object]
) -> None:
    argv = ["configs/st_mem/pretrain.yaml", f"data.store={synthetic_store}", f"out={tmp_path / 'sweep'}"]
    scored = tmp_path / "scored.yaml"
    scored.write_text("task: superclass\nprotocols: [linear_probe, clusters]\nmin_positives: 1\nstore: unset\n")
    rhythm, short = tmp_path / "rhythm.yaml", "model.input.seconds=4.5"
    rhythm.write_text("task: ptbxl_rhythm\nstore: unset\n")
    for settings, message in (
        (["model.mask_ratio=0.5,7", short], "mask_ratio=7: [^$]*less than"),
        (["optim.epochs=2,50", short], r"epochs=2: optim.warmup_epochs 40 is not below optim.epochs 2\.$"),
        (["optim.optimizer=adamw,adamm", short], "optimizer=adamm: .*'adamm' is not one of timm's"),
        (["model.mask_ratio=0.5,0.7", "model.input.seconds=9"], "takes 2250 samples but the store"),
        (["model.mask_ratio=0.5,0.7", short, f"evaluate={rhythm}"], "has no labels 'rhythm'"),
        (
            ["model.mask_ratio=0.5,0.7", short, "evaluate=configs/no.yaml"],
            "configs/no.yaml does not",
        ),
    ):
        with pytest.raises(UserError, match=message):
            main([*argv, *settings])
    assert started == []
    sweep = parse([*argv, "model.mask_ratio=0.5,0.7", short, f"evaluate={scored}"])
    checked, measure = check_points(sweep, sweep.points)
    assert measure.name == "linear_probe/auroc_macro"
    folder = sweep.out / "mask_ratio=0.5"
    assert checked["mask_ratio=0.5"].scoring == [str(scored), f"encoder.weights={folder}", f"store={synthetic_store}"]


def test_a_fine_tuning_scores_itself(synthetic_store: Path, tmp_path: Path) -> None:
    argv = ["configs/st_mem/finetune.yaml", f"data.store={synthetic_store}", "task=superclass", "mode=scratch"]
    sweep = parse([*argv, "optim.lr=1e-3,1e-4", "encoder.weights=null", "min_positives=1", f"out={tmp_path}"])
    checked, measure = check_points(sweep, sweep.points)
    assert measure.name == "finetune/auroc_macro"
    assert all(job.scoring is None for job in checked.values())


def test_the_measure() -> None:
    assert find_measure(None, [("clusters", "knn")]).name == "knn/auroc_macro"
    assert find_measure(None, [("clusters", "linear_probe")]).name == "clusters/labels/silhouette"
    spread = find_measure("clusters/labels/davies_bouldin", [("clusters",)])
    assert spread.lower_is_better and not find_measure("knn/auroc/MI", [("knn",)]).lower_is_better
    assert {p for p in PROTOCOLS if metrics_of(p)} == {p for p, known in PROTOCOLS.items() if known.validates}
