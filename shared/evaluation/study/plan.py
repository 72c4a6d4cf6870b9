"""From a study to its jobs: every row with every seed, resolved as its own program would, each in a run folder of its own."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.config import REPO_ROOT, Section, load_config
from shared.config_keys import known_keys
from shared.errors import UserError
from shared.evaluation.config import CommonSettings, EvaluateConfig
from shared.evaluation.study.config import Row, Settings, StudyConfig
from shared.evaluation.study.job import Job
from shared.finetune.config import FinetuneConfig
from shared.programs import find_program, program_of, programs_of


@dataclass(frozen=True)
class Study:
    """A study that is ready to run.

    Attributes:
        name: of its YAML.
        path: the YAML.
        config: at its size.
        out: folder of the runs and the page.
        jobs: `(row, seed)` to its job, those that others start from first; rows that stand in another's evaluation have none.
        overrides: `key=value` that it was read with.
    """

    name: str
    path: str
    config: StudyConfig
    out: Path
    jobs: dict[tuple[str, int], Job]
    overrides: tuple[str, ...] = ()

    @property
    def command(self) -> str:
        """What runs it again."""
        path = Path(self.path).resolve()
        shown = path.relative_to(REPO_ROOT) if path.is_relative_to(REPO_ROOT) else self.path
        return shlex.join(["bash", "scripts/study.sh", str(shown), *self.overrides])

    def job_of(self, row: str, seed: int) -> Job:
        """The job in whose evaluation a row stands."""
        of = self.config.rows[row].of
        return self.jobs[row, seed] if of is None else self.job_of(of, seed)


def plan_study(path: str, config: StudyConfig, overrides: Sequence[str] = ()) -> Study:
    """Resolve every row with every seed.

    Raises:
        UserError: a row that its program, or its evaluation, would refuse; or two rows of one folder.
    """
    name = Path(path).stem
    size = config.size if config.sizes else ""
    out = config.out or REPO_ROOT / "runs" / "studies" / name / size
    folders = {row: folder_name(row) for row in config.rows}
    if len(set(folders.values())) < len(folders):
        raise UserError(
            f"two rows of {path} would have one folder: {', '.join(folders.values())}. Name them otherwise."
        )
    jobs: dict[tuple[str, int], Job] = {}
    for row in _in_order(config.rows):
        for seed in config.seeds:
            try:
                jobs[row, seed] = plan_job(config, row, seed, out / folders[row] / f"seed-{seed}", jobs)
            except UserError as error:
                raise UserError(f"row {row}: {error}") from None
    return Study(name, path, config, out, jobs, tuple(overrides))


def folder_name(row: str) -> str:
    """A row's folder below the study's."""
    return re.sub(r"[^\w.+-]+", "_", row).strip("_.") or "row"


def _in_order(rows: Mapping[str, Row]) -> list[str]:
    """Names of the rows that are made, each after the one that it starts from."""
    order: list[str] = []

    def add(name: str) -> None:
        after = rows[name].after
        if after is not None and after not in order:
            add(after)
        if name not in order:
            order.append(name)

    for name, row in rows.items():
        if row.of is None:
            add(name)
    return order


def plan_job(
    config: StudyConfig,
    name: str,
    seed: int,
    folder: Path,
    jobs: Mapping[tuple[str, int], Job],
    trial: Settings | None = None,
) -> Job:
    """Resolve a row with one seed.

    Args:
        config: the study.
        name: of the row.
        seed: of it.
        folder: its run folder.
        jobs: those that it may start from.
        trial: settings over those of the row.

    Raises:
        UserError: what its program, or its evaluation, would refuse.
    """
    row = config.rows[name]
    own = {**row.set, **(trial or {})}
    assert row.config is not None
    program = program_of(row.config)
    package = program.partition(".")[0]
    scorer = f"{package}.evaluate"
    if scorer not in programs_of(package):
        raise UserError(
            f"{row.config} is for {program}: a study compares scores, and there is no {scorer} to give them."
        )
    after = None if row.after is None else jobs[row.after, seed]
    start = {} if after is None else {row.start: str(after.folder)}
    kind = find_program(program).config_class()
    if kind is EvaluateConfig:
        chosen = start | {"out": str(folder)} | _evaluation_settings(config, row, seed) | own
        arguments = [row.config, *as_text(chosen)]
        scored = load_config(EvaluateConfig, row.config, arguments[1:], program)
        assert isinstance(scored, CommonSettings)
        return Job(name, seed, folder, program, arguments, scored, scored, None, after)
    plain: Section = load_config(kind, row.config, as_text({"run.out": str(folder)}), program)
    chosen = _training_settings(config, type(plain), folder, seed) | start | own
    arguments = [row.config, *as_text(chosen)]
    resolved: Section = load_config(kind, row.config, arguments[1:], program)
    if isinstance(resolved, FinetuneConfig):
        return Job(name, seed, folder, program, arguments, resolved, resolved.as_evaluation(), None, after)
    found = {"encoder.weights": str(folder), "out": str(folder / "evaluation")}
    scoring = as_text(found | _evaluation_settings(config, row, seed))
    evaluated = load_config(EvaluateConfig, None, scoring, scorer)
    assert isinstance(evaluated, CommonSettings)
    return Job(name, seed, folder, program, arguments, resolved, evaluated, scoring, after)


def _training_settings(config: StudyConfig, kind: type[Section], folder: Path, seed: int) -> Settings:
    """What the study says of a training, as far as it has such keys."""
    common = config.evaluation
    settings: Settings = {
        "run.out": str(folder),
        "run.seed": seed,
        "run.device": config.device,
        "data.store": str(config.store),
        "data.folds": common.train_folds,
        "data.val_folds": common.val_folds,
        "test_folds": common.test_folds,
        "task": common.task,
        "resamples": common.resamples,
        "min_positives": common.min_positives,
        "evaluate": None,  # all rows are evaluated alike, afterwards
        **config.train,
    }
    if issubclass(
        kind, FinetuneConfig
    ):  # what it trains on is what it is tested on; others may learn from other records
        settings["single_label"] = common.single_label
        if common.protocol is not None:
            settings["protocol"] = common.protocol
    known = set(known_keys(kind))
    return {key: value for key, value in settings.items() if key in known}


def _evaluation_settings(config: StudyConfig, row: Row, seed: int) -> Settings:
    common = config.evaluation
    own: dict[str, Any] = {key: value for key, value in common if key != "set"}
    if common.protocol is None:
        del own["protocol"]
    return {**own, "store": str(config.store), "seed": seed, "device": config.device, **common.set, **row.evaluation}


def as_text(settings: Settings) -> list[str]:
    """`key=value` as the command line takes it."""
    return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in settings.items()]
