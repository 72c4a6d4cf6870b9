"""Train rows with several seeds, evaluate them alike, and end in one page: tables, paired differences, and a conclusion.

    python -m shared.evaluation.study CONFIG [size=NAME] [seeds=0,1,2] [store=…] [out=…] [slurm="…"] [key=value …]

The YAML declares rows, seeds, the baseline and the hypotheses; all are checked before anything is trained. GPUS=0,1 runs one
row per GPU; slurm="--gres gpu:1" hands the rows to Slurm with these options. Every row with every seed is a run folder below
`out`; what is finished is not done again, so the same command continues a study, and one row that fails stops no other. Rows
with a `space` are searched first: trials are ranked on validation, and the best setting is run with all seeds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext

from shared.config import asks_for_help, config_from_cli, entry_point
from shared.errors import UserError
from shared.evaluation.study.check import check_study
from shared.evaluation.study.config import StudyConfig, read_study
from shared.evaluation.study.page import conclude
from shared.evaluation.study.plan import Study, plan_study
from shared.evaluation.study.running import declare, find_missing, prepare_store, run_study, submit_study
from shared.evaluation.study.search import check_search, search_rows
from shared.files import hold
from shared.jobs import slurm_options

OWN = {
    "slurm": "options of sbatch: rows become arrays, the page a job after them",
    "only": "search: run the trials of rows with a space; a number: this job, counted from 0; table: the page of what has run",
}
"""Options that are no keys of the config."""


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if asks_for_help(argv):
        print(__doc__)
        print("\n".join(f"{name}=…  {what}" for name, what in OWN.items()))
        config_from_cli(StudyConfig, argv, "shared.evaluation.study")
    paths = [arg for arg in argv if "=" not in arg]
    if len(paths) != 1:
        raise UserError(
            f"one study is expected, {len(paths)} given. Usage: CONFIG [size=…] [seeds=0,1,2] [key=value …]"
        )
    own = {key: text for key, _, text in (arg.partition("=") for arg in argv) if key in OWN}
    overrides = [arg for arg in argv if "=" in arg and arg.partition("=")[0] not in OWN]
    config = read_study(paths[0], overrides)
    study = plan_study(paths[0], config, overrides)
    if "only" in own:
        raise SystemExit(run_part(study, own["only"]))
    slurm = slurm_options(own["slurm"]) if "slurm" in own else None
    with hold(study.out):
        study.out.mkdir(parents=True, exist_ok=True)
        prepare_store(config, study.out)
        check_study(study)
        measures = check_search(study)
        notes = declare(study)
        if slurm is not None:
            submit_study(study, argv, slurm, bool(measures))
            return
        study, searches = search_rows(study, measures)
        missing = run_study(study, unusable={found.row: found.why for found in searches if found.chosen is None})
        page = conclude(study, missing, notes, searches)
    raise SystemExit(0 if page is not None and not missing else 1)


def run_part(study: Study, part: str) -> int:
    """Run the search, one job by its number, or make the page of what has run; the exit code. What jobs of Slurm do.

    Raises:
        UserError: there is no such part.
    """
    study.out.mkdir(parents=True, exist_ok=True)
    with hold(study.out) if part == "search" else nullcontext():
        study, searches = search_rows(study, check_search(study), run=part == "search")
    jobs, unusable = list(study.jobs.values()), {found.row: found.why for found in searches if found.chosen is None}
    if part == "search":
        return 1 if unusable else 0
    if part == "table":
        missing = find_missing(study)
        return 0 if conclude(study, missing, declare(study), searches) is not None and not missing else 1
    if not re.fullmatch(r"\d{1,9}", part) or int(part) >= len(jobs):
        raise UserError(
            f"only={part[:40]}: expected search, table, or the number of one of {len(jobs)} jobs, counted from 0."
        )
    return 1 if run_study(study, [jobs[int(part)]], unusable) else 0


if __name__ == "__main__":
    entry_point(main)
