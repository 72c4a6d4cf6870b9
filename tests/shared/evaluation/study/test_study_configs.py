"""The studies that come with the project: each resolves at every size, with three seeds, a random encoder and hypotheses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shared.config import REPO_ROOT
from shared.evaluation.study.check import check_hypotheses
from shared.evaluation.study.config import read_study
from shared.evaluation.study.plan import plan_study
from shared.optim import OptimConfig

STUDIES = sorted((REPO_ROOT / "configs" / "studies").glob("*.yaml"))


def test_there_are_the_claims_of_the_seed_project() -> None:
    assert {"triplet", "vqvae", "hybrid", "clusters"} <= {path.stem for path in STUDIES}


@pytest.mark.parametrize("size", ["demo", "sample", "full"])
@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_study_resolves_at_every_size(path: Path, size: str) -> None:
    config = read_study(str(path), [f"size={size}"])
    assert set(config.sizes) == {"demo", "sample", "full"}
    study = plan_study(str(path), config)
    assert len(config.seeds) >= 3 and len(config.hypotheses) >= 3
    assert any(row.part == "random encoder" for row in config.rows.values())
    check_hypotheses(study)
    folds = {(job.scored.train_folds, job.scored.val_folds, job.scored.test_folds) for job in study.jobs.values()}
    assert folds == {((1, 2, 3, 4, 5, 6, 7, 8), (9,), (10,))}
    pretrained: Any = [job.config for job in study.jobs.values() if job.program.endswith(".pretrain")]
    assert {config.model.size for config in pretrained} == ({"base"} if size == "full" else {"tiny"})
    epochs = [
        optim.epochs
        for job in study.jobs.values()
        if isinstance(optim := getattr(job.config, "optim", None), OptimConfig)
    ]
    assert (max(epochs) >= 100) == (size == "full")
    for job in study.jobs.values():
        assert f"seed-{job.seed}" in str(job.folder) and str(study.out) in str(job.folder)
        assert job.after is None or job.after.seed == job.seed
