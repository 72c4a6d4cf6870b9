"""Command lines out of READMEs and YAMLs, run dry: bash runs the script, and a stand-in for `python` notes what it was to start."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from scripts.demo import parse, plan
from shared.apply import ApplyConfig
from shared.benchmark.plan import PlanConfig
from shared.config import REPO_ROOT, Section, config_from_cli, load_config, repo_path
from shared.data.fetching import DownloadConfig
from shared.evaluation.study.__main__ import OWN as STUDYS_OWN
from shared.evaluation.study.config import PROGRAM as STUDY
from shared.evaluation.study.config import read_study
from shared.evaluation.study.plan import plan_study
from shared.programs import all_programs, program_of
from shared.sweep.grid import parse as parse_sweep

COMMAND = re.compile(r"^(cd \S+ && )?((\w+=\S+|\[\w+=\S+\]) )*(bash \S|python -m |-m )")
"""What is a command line of ours among the code of a README."""
SCHEMATIC = {
    "key=a,b,c": "run.seed=0,1",
    "key2=d,e": "log_every=1,2",
    "[key=value …]": "",
    "key=value": "",
    "run.sh CONFIG": "run.sh configs/st_mem/pretrain.yaml",
    "sweep.sh CONFIG": "sweep.sh configs/st_mem/pretrain.yaml",
    "RUN/config.yaml": "configs/st_mem/pretrain.yaml",
    "RUN_OR_FILE": "runs/some",
    "RUN": "runs/some",
    "=…": "=runs/some",
    "…": "",
}
"""What stands for something of the reader's → an example of it; CONFIG alone is any YAML of the program that reads it."""
DEMO = "scripts/demo.py"
OTHERS = {"pytest", "shared.evaluation.report.compare", "shared.runs", "shared.schemas"}
"""What is started without a YAML."""
WITHOUT_YAML: dict[str, type[Section]] = {
    "shared.apply": ApplyConfig,
    "shared.benchmark.plan": PlanConfig,
    "shared.data.download": DownloadConfig,
}
"""What is started with settings alone."""
STAND_IN = """#!/usr/bin/env bash
case "$1 $2" in
  -c\\ * | "-m pip" | "-m shared.programs") exec "$PYTHON" "$@" ;;
esac
printf '%s\\0' "$@" $'\\n' >> "$STARTED"
"""


def commands_of(readme: Path) -> list[str]:
    """Every command line of a README, as it stands there: of its bash blocks, and of its code between the words."""
    text = readme.read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for kind, block in blocks if kind == "bash" for line in block.splitlines() if line.strip()]
    words = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    spans = [span.replace(r"\|", "|") for span in re.findall(r"`([^`\n]+)`", words)]
    return list(dict.fromkeys([*lines, *filter(COMMAND.match, spans)]))


def expand(command: str) -> list[str]:
    """A schematic command as commands that can be called: without its comment, each of {a,b} and a|b, options given."""
    command = re.split(r"\s{2,}#|\s{2,}\(", command)[0].strip()
    for schema, example in SCHEMATIC.items():
        command = re.sub(
            rf"(?<![\w.]){re.escape(schema)}(?![\w.])" if schema[0].isalpha() else re.escape(schema), example, command
        )
    command = re.sub(r"\[((?:\w+(?:=\S*)?[ |]*|\w+=\"[^\"]*\")+)\]", r"\1", command)  # optional, but not a YAML list
    parts = re.split(r"(\{[^{}]*,[^{}]*\}|(?<==)[\w|]*\|[\w|]*)", command)
    choices = [
        part.strip("{}").split("," if part[:1] == "{" else "|") if i % 2 else [part] for i, part in enumerate(parts)
    ]
    return ["".join(choice) for choice in itertools.product(*choices)]


def start(command: str, folder: Path, tmp: Path) -> list[list[str]]:
    """What Python would have been started with, of each time that the command starts it.

    Args:
        command: called by bash, as a reader would.
        folder: where it is called.
        tmp: an empty folder for the stand-in.
    """
    python, started = tmp / "bin" / "python", tmp / "started"
    python.parent.mkdir()
    python.write_text(STAND_IN)
    python.chmod(0o755)
    started.touch()
    env = {name: value for name, value in os.environ.items() if name not in ("GPUS", "PYTHONPATH", "SETTING")}
    env |= {"PATH": f"{python.parent}:{env['PATH']}", "PYTHON": sys.executable, "STARTED": str(started)}
    env["VIRTUAL_ENV"] = sys.prefix  # so that setup.sh takes the stand-in, and not the python of .venv
    done = subprocess.run(["bash", "-ec", command], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command!r} in {folder}: {done.stderr}"
    calls = [call.split("\0") for call in started.read_text().split("\0\n\0") if call]
    return [argv for call in calls for argv in (stages_of(call, command) if call[0] == DEMO else [call])]


def stages_of(call: list[str], command: str) -> list[list[str]]:
    """What the demo would start in its stages."""
    stages = plan(*parse([arg for arg in call[1:] if arg]), "test" if "SETTING=test" in command else "demo")
    return [job.command[1:] for stage in stages for job in stage.jobs]


def check(argv: list[str]) -> str | None:
    """Hold what Python was started with against the program: it exists, and takes the YAML and every setting.

    Returns:
        The YAML that it would read, counted from the root.
    """
    if argv[:2] == ["-m", "torch.distributed.run"]:
        argv = argv[argv.index("-m", 2) :]
    if argv[0] != "-m":
        assert (REPO_ROOT / argv[0]).is_file(), argv
        return None
    module, given = argv[1], argv[2:]
    assert importlib.util.find_spec(module), f"{module} does not exist"
    paths, settings = [a for a in given if "=" not in a and a[0] != "-"], [a for a in given if "=" in a and a[0] != "-"]
    if module == "shared.sweep":
        sweep = parse_sweep(given)
        for point in sweep.points:
            load_program(sweep.program, sweep.config, [f"{key}={value}" for key, value in point.items()])
        return sweep.config
    if module == STUDY:
        keys = [setting for setting in settings if setting.partition("=")[0] not in STUDYS_OWN]
        for path in some_yamls(STUDY) if paths == ["CONFIG"] else paths:
            plan_study(path, read_study(path, keys))
        return repo_path(paths[0]).relative_to(REPO_ROOT).as_posix() if paths != ["CONFIG"] else None
    if module in WITHOUT_YAML:
        config_from_cli(WITHOUT_YAML[module], given)
        return None
    if module == "shared.data.doctor":
        assert len(paths) <= 1, f"{module} takes one folder: {given}"
        return None
    if module in ("shared.data.info", "shared.data.verify"):
        assert len(paths) == (2 if "--compare" in given else 1), f"{module} takes stores: {given}"
        return None
    if module in OTHERS:
        return None
    names = [name for name, program in all_programs().items() if program.module == module]
    assert names, f"no program has the module {module}"
    name = names[0]
    if "--help" in given:
        return None
    configs = some_yamls(name) if paths == ["CONFIG"] else paths
    for config in configs:
        load_program(name, config, settings)
    return repo_path(configs[0]).relative_to(REPO_ROOT).as_posix() if configs else None


def load_program(name: str, config: str, settings: list[str]) -> Section:
    """Resolve a config as its program would, nothing started."""
    return load_config(all_programs()[name].config_class(), config, settings, name)


def some_yamls(name: str) -> list[str]:
    """Two YAMLs of a program that CONFIG may stand for."""
    return [path for path in yamls() if "/test/" not in path and program_of(path) == name][:2]


def yamls() -> Iterator[str]:
    """Every YAML of configs/, counted from the root."""
    yield from sorted(path.relative_to(REPO_ROOT).as_posix() for path in (REPO_ROOT / "configs").rglob("*.y*ml"))
