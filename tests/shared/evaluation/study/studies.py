"""Small studies, and jobs that run inside the test's own process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import shared.evaluation.report.results
import shared.evaluation.study.job
import shared.jobs
from shared.evaluation.study.__main__ import main
from tests.shared.sweep.planted import ENCODER, OneThread, in_process, make_planted


def write_study(tmp: Path, protocols: Sequence[str] = ("knn", "clusters"), **changes: Any) -> str:
    """A study of an outside encoder that sees other leads in each row, on the planted store; the path of its YAML.

    Only V1 tells the classes on the test records: `lead I` is at chance there.
    """
    config = tmp / "leads.yaml"
    config.write_text(f"program: st_mem_modified.evaluate\nstore: elsewhere\nencoder: {{module: '{ENCODER}'}}\n")
    store = tmp / "store"
    content: dict[str, Any] = {
        "program": "shared.evaluation.study",
        "out": str(tmp / "study"),
        "store": str(store if store.exists() else make_planted(store)),
        "seeds": [0, 1, 2],
        "baseline": "lead I",
        "rows": {
            "lead I": {"config": str(config), "set": {"encoder.leads": ["I"]}},
            "lead V1": {"config": str(config), "set": {"encoder.leads": ["V1"]}},
            "lead I again": {"config": str(config), "set": {"encoder.leads": ["I"]}},
        },
        "hypotheses": [
            {"row": "lead V1"},
            {"row": "lead V1", "direction": "lower"},
            {"row": "lead I again"},
        ],
        "evaluation": {"task": "kind", "protocols": protocols, "min_positives": 1, "resamples": 20},
        "draws": 400,
        "device": "cpu",
    }
    content["evaluation"]["set"] = {"knn.k": 5}
    path = tmp / "study.yaml"
    path.write_text(json.dumps(content | changes).replace('"leads.yaml"', json.dumps(str(config))))  # JSON is YAML
    return str(path)


def run_in_process(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Jobs are run without the seconds that a process takes to start, their pages without figures.

    Returns:
        The commands that were run, as they come.
    """
    commands: list[Sequence[str]] = []

    def run(command: Sequence[str], log: Path, gpu: str | None) -> bool:
        commands.append(command)
        return in_process(command, log, gpu)

    monkeypatch.setattr(shared.jobs, "ThreadPoolExecutor", OneThread)
    monkeypatch.setattr(shared.evaluation.study.job, "execute", run)
    monkeypatch.setattr(shared.evaluation.report.results, "report_parts", lambda *_: [])
    return commands


def finish(*argv: str) -> int:
    """Run a study to its end; its exit code."""
    with pytest.raises(SystemExit) as end:
        main(argv)
    code = end.value.code
    assert isinstance(code, int)
    return code
