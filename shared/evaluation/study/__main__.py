"""Train rows with several seeds, evaluate them alike, and end in one page: tables, paired differences, and a conclusion.

    python -m shared.evaluation.study CONFIG [size=NAME] [seeds=0,1,2] [store=…] [out=…] [key=value …]

The YAML declares rows, seeds, the baseline and the hypotheses; all are checked before anything is trained. GPUS=0,1 runs one
row per GPU. Every row with every seed is a run folder below `out`; what is finished is not done again, so the same command
continues a study, and one row that fails stops no other.
"""

from __future__ import annotations

from collections.abc import Sequence

from shared.config import asks_for_help, config_from_cli, entry_point
from shared.errors import UserError
from shared.evaluation.study.check import check_study
from shared.evaluation.study.config import StudyConfig, read_study
from shared.evaluation.study.page import conclude
from shared.evaluation.study.plan import plan_study
from shared.evaluation.study.running import declare, prepare_store, run_study
from shared.files import hold


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if asks_for_help(argv):
        print(__doc__)
        config_from_cli(StudyConfig, argv, "shared.evaluation.study")
    paths = [arg for arg in argv if "=" not in arg]
    if len(paths) != 1:
        raise UserError(
            f"one study is expected, {len(paths)} given. Usage: CONFIG [size=…] [seeds=0,1,2] [key=value …]"
        )
    overrides = [arg for arg in argv if "=" in arg]
    config = read_study(paths[0], overrides)
    study = plan_study(paths[0], config, overrides)
    with hold(study.out):
        study.out.mkdir(parents=True, exist_ok=True)
        prepare_store(config, study.out)
        check_study(study)
        notes = declare(study)
        missing = run_study(study)
        page = conclude(study, missing, notes)
    raise SystemExit(0 if page is not None and not missing else 1)


if __name__ == "__main__":
    entry_point(main)
