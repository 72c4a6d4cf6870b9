"""Run a grid of settings and end in one table that ranks them on validation: one process per GPU, or a Slurm array.

    python -m shared.sweep CONFIG key=a,b,c key2=d,e key3=f [choose=knn/auroc_macro] [out=runs/sweep] [slurm="…"]

The YAML says which program runs its points; points that do not evaluate themselves are scored by that package's `evaluate`
program on the YAML `evaluate`. The settings of all points are checked before the first is run. GPUS=0,1 runs one point per
GPU; slurm="--gres gpu:1" hands them to Slurm with these options. Every point is a run folder below `out`; what is finished
is not done again, so the same command continues a sweep. The table has one line per point, ranked by its score on the
validation records; a test score stands beside the chosen point only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from shared.config import asks_for_help, entry_point
from shared.errors import UserError
from shared.files import hold
from shared.jobs import slurm_options
from shared.sweep.check import check_points
from shared.sweep.grid import OWN, Sweep, parse
from shared.sweep.running import run_here, submit
from shared.sweep.table import measure_of, write_table


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if asks_for_help(argv):
        print(__doc__)
        print("\n".join(f"{name}=…  {what}" for name, what in OWN.items()))
        return
    sweep = parse(argv)
    if "point" in sweep.own:
        point = pick_point(sweep, sweep.own["point"])
        checked, _ = check_points(sweep, [point])
        raise SystemExit(1 if run_here(sweep, checked) else 0)
    if sweep.own.get("table") == "true":
        raise SystemExit(0 if write_table(sweep, measure_of(sweep)) else 1)
    slurm = slurm_options(sweep.own["slurm"]) if "slurm" in sweep.own else None
    checked, measure = check_points(sweep, sweep.points)
    if slurm is not None:
        submit(sweep, argv, slurm)
        return
    with hold(sweep.out):
        sweep.out.mkdir(parents=True, exist_ok=True)
        about = {"config": sweep.config, "axes": sweep.axes, "choose": measure.name}
        (sweep.out / "sweep.json").write_text(json.dumps(about, indent=1))
        failed = run_here(sweep, checked)
        page = write_table(sweep, measure, failed)
    if failed:
        print(f"{len(failed)} of {len(sweep.points)} points failed: {', '.join(failed)}")
    raise SystemExit(0 if page is not None and not failed else 1)


def pick_point(sweep: Sweep, text: str) -> dict[str, str]:
    """The point of a number.

    Raises:
        UserError: there is none.
    """
    number = int(text) if re.fullmatch(r"\d{1,9}", text) else -1
    if not 0 <= number < len(sweep.points):
        raise UserError(f"point {text[:40]} of a sweep of {len(sweep.points)} points, counted from 0.")
    return sweep.points[number]


if __name__ == "__main__":
    entry_point(main)
