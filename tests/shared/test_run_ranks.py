"""Two processes of one run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from shared.checkpoints import WEIGHTS, read_weights
from shared.config import REPO_ROOT
from tests.ranks import run_two_ranks

# ---------------------------------------------------------------- two processes

TWO_RANKS = textwrap.dedent("""
    import json, os, signal, sys
    import torch
    from torch import nn
    from shared.config import Section
    from shared.run import Run, RunConfig

    class Toy(Section):
        run: RunConfig

    out = sys.argv[1]
    config = RunConfig(out=out, device="cpu")
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(5))
    with Run(config, Toy(run=config), "toy") as run:
        model = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 2))
        wrapped = run.wrap(model)
        share = run.share_of(8)
        mine = x[run.rank * share : (run.rank + 1) * share]
        for first in range(0, share, 2):
            with run.accumulating(wrapped, last=first + 2 >= share):
                (wrapped(mine[first : first + 2]).square().mean() * 2 / share).backward()
        grads = [p.grad.tolist() for p in model.parameters()]
        means = run.mean_over_ranks({"rank": float(run.rank), "two": torch.tensor(2.0)})
        quiet_before = run.check_signal()
        if run.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        asked = run.check_signal()
        run.log(1, loss=0.5)
        run.save(model, 1)
        code = run.stop().exit_code
        run.step = 1
        noise = [torch.rand(1, generator=run.begin_step()).item(), torch.rand(1).item()]
        weight = model[0].weight.tolist()
        run._signal = None  # else the end of the run would honour it
    with open(f"{out}/rank{run.rank}.json", "w") as file:
        json.dump({"grads": grads, "means": means, "signal": [quiet_before, asked, code], "noise": noise, "w": weight}, file)
""")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """What two gloo ranks report, and their run folder."""
    out = tmp_path_factory.mktemp("ranks")
    run_two_ranks(TWO_RANKS, str(out))
    return out, [json.loads((out / f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_gradients_agree_with_one_process(ranks: tuple[Path, list[dict[str, Any]]]) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.GELU(), nn.Linear(5, 2))
    x = torch.randn(8, 4, generator=torch.Generator().manual_seed(5))
    model(x).square().mean().backward()
    for report in ranks[1]:
        assert torch.equal(torch.tensor(report["w"]), model[0].weight)
        for got, parameter in zip(report["grads"], model.parameters(), strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(torch.tensor(got), parameter.grad)


@pytest.mark.slow
def test_ranks_share_means_signals_and_what_is_drawn_for_the_batch(ranks: tuple[Path, list[dict[str, Any]]]) -> None:
    first, second = ranks[1]
    assert first["means"] == second["means"] == {"rank": 0.5, "two": 2.0}
    assert first["signal"] == second["signal"] == [False, True, 143]
    assert first["noise"][0] == second["noise"][0] and first["noise"][1] != second["noise"][1]


@pytest.mark.slow
def test_only_the_main_rank_writes(ranks: tuple[Path, list[dict[str, Any]]]) -> None:
    out, _ = ranks
    assert len((out / "log.jsonl").read_text().splitlines()) == 1
    assert [p.name for p in (out / "checkpoints").iterdir()] == ["step-00000001"]
    state, _, _ = read_weights(out / "checkpoints" / "step-00000001" / WEIGHTS)
    assert set(state) == {"0.weight", "0.bias", "2.weight", "2.bias"}  # no `module.` prefix


# ---------------------------------------------------------------- ranks that do not belong together, and dead ones

APART = textwrap.dedent("""
    import os, sys
    from shared.config import Section
    from shared.errors import UserError
    from shared.ranks import require_alike
    from shared.run import Run, RunConfig

    class Toy(Section):
        run: RunConfig
        width: int = 3

    out, kind, rank = sys.argv[1], sys.argv[2], int(os.environ["RANK"])
    config = RunConfig(out=out, device="cpu")
    try:
        with Run(config, Toy(run=config, width=3 + rank * (kind == "config")), "toy"):
            require_alike("the store", f"fingerprint {rank}")
    except UserError as error:
        print(error)
        sys.exit(7 if f"the {kind} differs" in str(error) else str(error))
    sys.exit("they trained")
""")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["config", "store"])
def test_ranks_of_other_configs_or_stores_are_refused(tmp_path: Path, kind: str) -> None:
    said = run_two_ranks(APART, str(tmp_path / "run"), kind, code=7)
    assert all(f"the {kind} differs between the 2 processes of this run" in text for text in said)
    assert not list(tmp_path.glob("run/checkpoints"))


DEAD = textwrap.dedent("""
    import os, signal, sys
    import torch
    from shared.config import Section
    from shared.run import Run, RunConfig

    class Toy(Section):
        run: RunConfig

    config = RunConfig(out=sys.argv[1], device="cpu")
    with Run(config, Toy(run=config), "toy") as run:
        for step in range(10**6):
            if run.rank == 1 and step == 5:
                if sys.argv[2] == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ZeroDivisionError("of rank one")
            run.mean_over_ranks({"x": 1.0})
""")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "raised"])
def test_a_dead_rank_ends_the_job_and_is_named(tmp_path: Path, how: str) -> None:
    """As `scripts/launch.sh` starts it."""
    script = tmp_path / "dead.py"
    script.write_text(DEAD)
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, tmp_path / "run", how],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(REPO_ROOT)},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode != 0 and time.monotonic() - begun < 60
    assert ("ZeroDivisionError: of rank one" if how == "raised" else "Signal 9 (SIGKILL)") in done.stderr, done.stderr
