"""Every ablation of ST-MEM runs from its YAML, small, and differs from the recipe in what its name says."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.checkpoints import WEIGHTS, newest_checkpoint, read_weights
from shared.config import REPO_ROOT, load_config, read_program
from shared.leads import parse_leads
from shared.programs import program_of
from st_mem_modified.config import ModelConfig, PretrainConfig
from st_mem_modified.pretrain import main

PROGRAM = "st_mem_modified.pretrain"
ABLATIONS = sorted(
    path.relative_to(REPO_ROOT).as_posix()
    for path in REPO_ROOT.glob("configs/ablations/*.yaml")
    if program_of(str(path)) == PROGRAM
)
SMALL = [
    "model.size=tiny", "model.depth=1", "model.input.num_samples=1050", "optim.epochs=1", "optim.batch_size=80",
    "optim.warmup_epochs=0", "run.device=cpu", "run.precision=fp32", "run.compile=false", "run.num_workers=0",
]  # fmt: skip
"""1050 samples are whole patches of 75 and of 50."""


@pytest.mark.parametrize("path", ABLATIONS)
def test_ablation_runs_two_steps_and_its_saved_config_says_who_reads_it(
    path: str, synthetic_store: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    main([path, *SMALL, f"data.store={synthetic_store}", f"run.out={out}"])
    saved = load_config(PretrainConfig, out / "config.yaml", program=PROGRAM)
    assert read_program(out / "config.yaml") == PROGRAM
    newest = newest_checkpoint(out)
    assert newest is not None
    _, _, trained = read_weights(newest / WEIGHTS)
    assert trained == saved.model_dump(mode="json")  # without the program, as before there was one
    main([str(out / "config.yaml")])  # what stands there is the run itself: it is found finished, and not refused


def test_there_are_the_ablations_that_were_asked_for() -> None:
    recipe = load_config(PretrainConfig, "configs/st_mem/pretrain.yaml").model
    models = {Path(path).stem.removeprefix("st_mem_"): load_config(PretrainConfig, path).model for path in ABLATIONS}

    def differs(model: ModelConfig) -> set[str]:
        return {key for key in ModelConfig.model_fields if getattr(model, key) != getattr(recipe, key)}

    assert {name: differs(model) for name, model in models.items()} == {
        "mask_ratio_50": {"mask_ratio"},
        "mask_ratio_85": {"mask_ratio"},
        "patch_50": {"patch_size"},
        "no_norm_pix": {"norm_pix_loss"},
        "decoder_depth_1": {"decoder_depth"},
        "leads_independent": {"input"},
        "leads_limb": {"input"},
    }
    for group in ("independent", "limb"):
        assert models[f"leads_{group}"].input == recipe.input.with_leads(parse_leads(group))
