"""Measure speed: the data path, training steps and embedding, for every method and size.

python -m shared.benchmark [CONFIG] [sizes=base batches=16,64 modes=eager,compiled precisions=bf16 …]
python -m shared.benchmark upstream_st_mem=PATH upstream_ecg_jepa=PATH     beside the published implementations
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from shared.benchmark.config import BenchmarkConfig
from shared.benchmark.data_path import measure_data
from shared.benchmark.report import machine, write_report
from shared.benchmark.steps import Case, cases_of, measure_case, model_values
from shared.benchmark.timing import Product
from shared.benchmark.upstream import measure_upstream
from shared.benchmark.workload import Maker, pick_models
from shared.config import config_from_cli, entry_point, to_yaml
from shared.errors import UserError
from shared.ranks import join_ranks, pick_device

TO_WORKER = "SSL_ECG_BENCHMARK_CASE"
"""Environment variable: the case of a data-parallel step, as JSON."""


def benchmark(config: BenchmarkConfig) -> Path:
    """Measure all cases, and write JSON, figure and table.

    Returns:
        The folder.

    Raises:
        UserError: no such model, size or device, or a published implementation that is not as expected.
    """
    device = pick_device(config.device)
    config, models = config.for_device(device), pick_models(config.models)
    lacking = {name: _check(name, maker, config) for name, maker in models.items()}
    rows: list[dict[str, Any]] = []
    if config.upstream_st_mem or config.upstream_ecg_jepa:
        rows += _told(measure_upstream(config, pick_models(())))
    if "data" in config.parts:
        rows += _told(measure_data(config, models, device))
    products: dict[str, Product] = {}
    full: set[Case] = set()  # of which a smaller batch has filled the memory
    for case in cases_of(config, list(models), lacking):
        if replace(case, batch=0) in full:
            continue
        if case.precision not in products:
            assert config.product_side
            products[case.precision] = Product(config.product_side, case.precision, device, config.min_seconds)
        found = measure_case(case, config, models[case.model], products[case.precision])
        rows += _told([found])
        if "error" in found:
            full.add(replace(case, batch=0))
        elif case.part == "step":
            more = [n for n in config.processes or () if n > 1]
            rows += _told([row for n in more for row in in_processes(replace(case, processes=n), config)])
    return write_report(config.out, rows, machine(device), config.processes or (1,))


def _check(name: str, maker: Maker, config: BenchmarkConfig) -> set[str]:
    """The variants that a model does not know; a UserError where it does not know a size or a length."""
    lacking = set()
    for size in config.sizes:
        for seconds in config.seconds or (None,):
            for variant in config.variants:
                case = Case("step", name, size, seconds, 1, "fp32", False, variant)
                try:
                    maker.config.model_validate(model_values(case))
                except ValidationError as error:
                    if variant == "plain":
                        raise UserError(f"{name}, size {size}: {error.errors()[0]['msg']}") from None
                    lacking.add(variant)
    return lacking


def in_processes(case: Case, config: BenchmarkConfig) -> list[dict[str, Any]]:
    """The case on several processes of this machine, each with its batch; the rows that the first of them wrote."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.yaml").write_text(to_yaml(config))
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(case.processes)),
            *("-m", "shared.benchmark", f"{folder}/config.yaml", f"out={folder}"),
        ]
        env = {**os.environ, TO_WORKER: json.dumps(asdict(case))}
        done = subprocess.run(command, env=env, check=False)
        made = Path(folder) / "row.json"
        if done.returncode or not made.is_file():
            return [{**asdict(case), "error": f"its processes ended with exit code {done.returncode}"}]
        return [json.loads(made.read_text())]


def worker(config: BenchmarkConfig, case: Case) -> None:
    """One of several processes: measures in step with the others, and the first writes the row."""
    import torch.distributed as dist

    rank, _, local = join_ranks()
    device = pick_device(config.device, local)
    config = config.for_device(device)
    assert config.product_side
    product = Product(config.product_side, case.precision, device, config.min_seconds)
    # All must make the same number of steps, whatever their clocks say.
    row = measure_case(
        case, config.model_copy(update={"min_seconds": 1e-9}), pick_models((case.model,))[case.model], product
    )
    if rank == 0:
        (config.out / "row.json").write_text(json.dumps(row))
    dist.barrier()
    dist.destroy_process_group()


def _told(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows, printed."""
    for row in rows:
        print(line_of(row), flush=True)
    return rows


def line_of(row: Mapping[str, Any]) -> str:
    """A row in a line."""
    names = ("part", "stage", "model", "size", "seconds", "batch", "precision", "variant")
    what = [str(row[name]) for name in names if row.get(name) not in (None, "plain")]
    what += ["compiled"] if row.get("compiled") else []
    what += [f"{row['processes']} processes"] if row.get("processes", 1) > 1 else []
    if "error" in row:
        return f"{' '.join(what)}: {row['error']}"
    shown = {
        "ecg_per_s": "{:.1f} ECG/s", "tflops": "{:.3g} TFLOP/s", "share_of_product": "{:.1%} of the product's rate",
        "waiting_share": "{:.2%} of the time waiting", "published_ecg_per_s": "published {:.1f} ECG/s",
        "times_published": "{:.2f} times", "peak_gib": "{:.2f} GiB", "graphs": "{} graphs",
    }  # fmt: skip
    return f"{' '.join(what)}: {', '.join(text.format(row[name]) for name, text in shown.items() if row.get(name))}"


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    config = config_from_cli(BenchmarkConfig, argv, "shared.benchmark.speed")
    if TO_WORKER in os.environ and "RANK" in os.environ:
        worker(config, Case(**json.loads(os.environ[TO_WORKER])))
        return
    print(f"measured: {benchmark(config)}")


if __name__ == "__main__":
    entry_point(main)
