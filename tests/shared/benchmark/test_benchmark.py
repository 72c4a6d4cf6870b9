"""The benchmark counts what is useful, measures every kind of case, and says what it cannot measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from shared.benchmark.__main__ import benchmark, in_processes, line_of
from shared.benchmark.config import BenchmarkConfig
from shared.benchmark.plan import PlanConfig, plan
from shared.benchmark.steps import Case, Trainer, cases_of, model_values
from shared.benchmark.timing import Product, measure
from shared.benchmark.upstream import load_published, published_step
from shared.benchmark.workload import all_models, pick_models
from shared.config import load_config
from shared.errors import UserError

BATCH = 2


def small(out: Path, **values: Any) -> BenchmarkConfig:
    config = load_config(BenchmarkConfig, "configs/test/benchmark.yaml", [f"out={out}"])
    return BenchmarkConfig.model_validate({**config.model_dump(), **values}).for_device(torch.device("cpu"))


def counted(work: Any) -> float:
    """By torch, with the plain attention kernel, whose two products it sees."""
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("name", ["st_mem", "ecg_jepa", "ecg_jepa_hybrid"])
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_flops_of_the_formula_are_those_that_torch_counts(name: str, size: str) -> None:
    """Up to what is computed and not useful: ST-MEM embeds patches that it then drops, CroPA has the own score twice."""
    work = all_models()[name](
        {"size": size, **({} if name == "st_mem" else {"cropa": "grid"})}
    )  # no fused kernel hides any
    work.model.eval()
    ecg, drawn = work.ecg(BATCH, torch.device("cpu")), work.draw(BATCH, torch.Generator().manual_seed(0))
    config = work.model.config
    rows, times = (len(config.input.leads), config.num_patches) if name == "st_mem" else (len(config.rows), 50)
    own = 0.0 if name == "st_mem" else 4.0 * BATCH * config.depth * rows * times * config.embed_dim
    assert counted(lambda: work.encoder.embed(ecg)) == pytest.approx(BATCH * work.embed_flops + own, rel=1e-9)

    forward = counted(lambda: work.model(ecg, drawn))
    if name == "st_mem":
        dropped = times - int(times * (1 - config.mask_ratio))
        useful = forward - 2.0 * BATCH * rows * dropped * config.patch_size * config.embed_dim
        assert work.step_flops(BATCH, drawn) == pytest.approx(3 * useful, rel=1e-9)
        return
    seen = int((~drawn).sum())
    teacher = BATCH * work.embed_flops
    student = forward - teacher - own - own * seen / times
    assert work.step_flops(BATCH, drawn) == pytest.approx(3 * student + teacher, rel=1e-9)


def test_three_forwards_are_what_a_step_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward as torch counts them: the first layer has no gradient of its input, all else is three."""
    work = all_models()["st_mem"]({"size": "small"})
    ecg, drawn = work.ecg(BATCH, torch.device("cpu")), work.draw(BATCH, torch.Generator().manual_seed(0))
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work.model(ecg, drawn).loss.backward()
    assert counter.get_total_flops() == pytest.approx(work.step_flops(BATCH, drawn), rel=0.01)


def test_recomputed_activations_are_not_useful() -> None:
    plain, again = (all_models()["st_mem"]({"size": "tiny", **more}) for more in ({}, {"recompute": True}))
    drawn = plain.draw(BATCH, torch.Generator().manual_seed(0))
    assert plain.step_flops(BATCH, drawn) == again.step_flops(BATCH, drawn)


def test_every_kind_of_case_is_measured_and_reported(tmp_path: Path) -> None:
    out = benchmark(small(tmp_path / "out", variants=("plain", "recompute=true", "cropa=grid")))
    found = json.loads((out / "benchmark.json").read_text())
    kinds = {(row["part"], row.get("model"), row.get("variant")) for row in found["rows"]}
    for model in ("st_mem", "ecg_jepa", "ecg_jepa_hybrid"):
        for part in ("step", "encode"):
            assert {(part, model, "plain"), (part, model, "recompute=true")} <= kinds
    assert ("step", "ecg_jepa", "cropa=grid") in kinds and ("step", "st_mem", "cropa=grid") not in kinds
    for row in found["rows"]:
        if row["part"] in ("step", "encode"):
            assert row["ecg_per_s"] > 0 and row["peak_gib"] > 0 and len(row["shares"]) == 1
            assert row["share_of_product"] == pytest.approx(row["shares"][0])
    waits = [row["waiting_share"] for row in found["rows"] if row.get("stage") == "a step waits"]
    assert len(waits) == 2 and all(0 <= share <= 1 for share in waits)
    page = (out / "benchmark.md").read_text()
    assert "## Data path, one process" in page and "| ecg_jepa_hybrid | tiny |" in page
    assert (out / "benchmark.png").stat().st_size > 1000
    assert found["machine"]["threads"] == torch.get_num_threads()


def test_work_is_measured_in_turns_with_the_product() -> None:
    product, calls = Product(16, "fp32", torch.device("cpu"), 1e-9), []
    rates = iter([10.0, 30.0, 50.0])
    product.rate = lambda: calls.append("product") or next(rates)  # type: ignore[func-returns-value, method-assign]
    found = measure(lambda: calls.append("work") or 1.0, product, rounds=2, least=1e-9)  # type: ignore[func-returns-value]
    assert [name for name in calls if name == "product"] == ["product"] * 3
    assert calls[-4:] == ["work", "product", "work", "product"]
    assert found.product == 30.0 and found.share == pytest.approx(sum(found.shares) / 2)


def test_batches_grow_until_memory_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def step(self: Trainer, ecg: Any = None) -> float:
        tried.append(self.batch)
        if self.batch > 2:
            raise torch.OutOfMemoryError("full")
        return 1.0

    monkeypatch.setattr(Trainer, "step", step)
    config = small(tmp_path, parts=("step",), models=("st_mem",), batches=(2, 4, 8))
    found = json.loads((benchmark(config) / "benchmark.json").read_text())["rows"]
    assert [row["batch"] for row in found] == [2, 4] and found[1]["error"] == "out of memory"
    assert set(tried) == {2, 4}
    assert line_of(found[1]) == "step st_mem tiny 4 fp32: out of memory"


def test_cases_are_all_combinations(tmp_path: Path) -> None:
    config = small(tmp_path, parts=("data", "step"), batches=(1, 2), seconds=(4.5, 9.0), modes=("eager", "compiled"))
    cases = cases_of(config, ["st_mem", "ecg_jepa"], {"st_mem": set(), "ecg_jepa": {"plain"}})
    assert len(cases) == 8 and {case.model for case in cases} == {"st_mem"}
    values = model_values(Case("step", "st_mem", "tiny", 4.5, 1, "fp32", False, "recompute=true"))
    assert values == {"size": "tiny", "input": {"seconds": 4.5}, "recompute": "true"}


@pytest.mark.slow
def test_several_processes_train_together(tmp_path: Path) -> None:
    (row,) = in_processes(
        Case("step", "st_mem", "tiny", None, BATCH, "fp32", False, processes=2), small(tmp_path, processes=(2,))
    )
    assert row["processes"] == 2 and row["ecg_per_s"] == pytest.approx(2 * BATCH / row["seconds_a_call"])


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no 'st_men'; did you mean 'st_mem'"):
        pick_models(("st_men",))
    with pytest.raises(UserError, match="st_mem, size huge: Input should be 'tiny', 'small' or 'base'"):
        benchmark(small(tmp_path, sizes=("huge",), models=("st_mem",)))


# ---------------------------------------------------------------- published implementations

PUBLISHED = """
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.target_encoder = torch.nn.Linear(2500, 2), torch.nn.Linear(2500, 2)
    def forward(self, x):
        return self.encoder(x).square().{how}()
def ecg_jepa({arguments}):
    return Model()
"""
ALL = "encoder_embed_dim, encoder_depth, encoder_num_heads, mask_type, **others"


def folder_of(tmp_path: Path, arguments: str = ALL, how: str = "mean") -> Path:
    (tmp_path / "ecg_jepa.py").write_text(PUBLISHED.format(arguments=arguments, how=how))
    return tmp_path


def test_a_published_step_is_called_as_its_folder_has_it(tmp_path: Path) -> None:
    model = load_published("ecg_jepa", folder_of(tmp_path))
    before = [parameter.clone() for parameter in (*model.encoder.parameters(), *model.target_encoder.parameters())]  # type: ignore[operator, union-attr]
    case = Case("step", "ecg_jepa", "tiny", None, BATCH, "fp32", False)
    published_step("ecg_jepa", model, BATCH, Trainer(case, small(tmp_path), all_models()["ecg_jepa"]))()
    after = [*model.encoder.parameters(), *model.target_encoder.parameters()]  # type: ignore[operator, union-attr]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(
    ("arguments", "how", "message"),
    [
        (None, "mean", r"upstream_ecg_jepa=.*expected a checkout.*ecg_jepa\(…\) in .*ecg_jepa.py; there is no such file"),
        ("a", "mean", "takes no encoder_embed_dim, encoder_depth, encoder_num_heads, mask_type, so it is another version"),
        (ALL, "sum(1).mean", None),
        (ALL, "tolist", "a training step failed|no scalar loss"),
    ],
)  # fmt: skip
def test_another_face_is_refused(tmp_path: Path, arguments: str | None, how: str, message: str | None) -> None:
    folder = tmp_path if arguments is None else folder_of(tmp_path, arguments, how)
    case = Case("step", "ecg_jepa", "tiny", None, BATCH, "fp32", False)

    def start() -> None:
        model = load_published("ecg_jepa", folder)
        published_step("ecg_jepa", model, BATCH, Trainer(case, small(tmp_path), all_models()["ecg_jepa"]))

    if message is None:
        start()
        return
    with pytest.raises(UserError, match=message):
        start()


# ---------------------------------------------------------------- the plan


def test_a_plan_is_arithmetic_on_what_was_measured(tmp_path: Path) -> None:
    step = {"part": "step", "model": "st_mem", "size": "tiny", "processes": 2}
    rows = [{**step, "ecg_per_s": 2000.0}, {**step, "processes": 1, "ecg_per_s": 400.0}, {**step, "error": "full"}]
    (tmp_path / "benchmark.json").write_text(json.dumps({"rows": rows}))
    settings = {"size": "tiny", "models": ("st_mem",), "records": 3_600_000, "epochs": 10, "gpus": 2}
    text = plan(PlanConfig(measured=tmp_path / "benchmark.json", **settings))  # type: ignore[arg-type]
    assert "3600000 records: 216 GB in 440 files of 492 MB; 2 GPUs; measured: benchmark.json" in text
    cells = [cell.strip() for cell in text.splitlines()[-1].split("|")]
    assert cells[3:9] == ["1000", "54.0", "1.0", "10", "10", "0.2"]
    assert "not measured" in plan(PlanConfig(tflops=100, **settings))  # type: ignore[arg-type]


def test_a_plan_without_a_speed_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(UserError, match="give the speed"):
        plan(PlanConfig())
    with pytest.raises(UserError, match=r"a.json is no benchmark.json \('rows'\)"):
        plan(PlanConfig(measured=tmp_path / "a.json", size="tiny"))
    (tmp_path / "a.json").write_text('{"rows": []}')
    with pytest.raises(UserError, match="no training step of st_mem tiny"):
        plan(PlanConfig(measured=tmp_path / "a.json", size="tiny"))
