"""The grid of a sweep: the command line to its points, their names, and the sweep's own options."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.config import LONGEST_NAME, repo_path
from shared.errors import UserError
from shared.programs import program_of, programs_of

MOST_POINTS = 1000
OWN = {
    "out": "folder of the run folders and the table (runs/sweep/NAME_OF_CONFIG)",
    "evaluate": "YAML of the evaluation of points that do not evaluate themselves (configs/METHOD/inference_clusters.yaml)",
    "choose": "PROTOCOL/METRIC, the validation score that ranks the points (knn/auroc_macro where the evaluation runs knn, "
    "else the first headline of its first protocol that scores validation records, e.g. finetune/auroc_macro)",
    "show_test": "true: the table shows the test scores of all points, marked as not for choosing (false: the chosen one's)",
    "slurm": "options of sbatch: points become an array, the table a job after it",
    "point": "run the point of this number, counted from 0, and nothing else",
    "table": "true: run nothing, make the table of the points that have scores",
}
"""The sweep's own options, which are no settings of a point: what they are and, in brackets, their default."""


@dataclass(frozen=True)
class Sweep:
    """What is run.

    Attributes:
        config: the YAML all points start from.
        axes: key to its values, as text.
        out: folder of the run folders.
        program: what runs a point.
        evaluate: config of the evaluation of points that do not evaluate themselves.
        choose: `PROTOCOL/METRIC` as given; None takes the default.
        show_test: whether all test scores are shown.
        own: the sweep's own options, as given.
    """

    config: str
    axes: dict[str, list[str]]
    out: Path
    program: str
    evaluate: str
    choose: str | None = None
    show_test: bool = False
    own: dict[str, str] = field(default_factory=dict)

    @property
    def scorer(self) -> str:
        """The program that evaluates a point."""
        return f"{self.program.partition('.')[0]}.evaluate"

    @property
    def points(self) -> list[dict[str, str]]:
        """Every combination, the last key changing fastest."""
        return [dict(zip(self.axes, values, strict=True)) for values in itertools.product(*self.axes.values())]

    @property
    def varied(self) -> dict[str, str]:
        """The keys in which points differ → their last parts, where these are enough to tell them apart."""
        varied = [key for key, values in self.axes.items() if len(values) > 1]
        last = [key.rpartition(".")[2] for key in varied]
        return dict(zip(varied, last if len(set(last)) == len(last) else varied, strict=True))

    def name(self, point: dict[str, str]) -> str:
        """Folder of a point: what differs between points."""
        return re.sub(r"[^\w.,=+-]+", "_", ",".join(f"{short}={point[key]}" for key, short in self.varied.items()))

    def folder(self, point: dict[str, str]) -> Path:
        """Run folder of a point."""
        return self.out / self.name(point)


def parse(argv: Sequence[str]) -> Sweep:
    """The sweep that the command line describes.

    Raises:
        UserError: no config, one without a program or of one whose runs have no scores, fewer than two points, or two of a name.
    """
    configs = [arg for arg in argv if "=" not in arg]
    if len(configs) != 1:
        raise UserError(
            f"one config is expected, {len(configs)} given. Usage: CONFIG key=a,b,c key2=… [out=runs/sweep]"
        )
    given: dict[str, str] = {}
    for arg in argv:
        key, equals, text = arg.partition("=")
        if equals and (not key or key in given):
            raise UserError(
                f"{arg[:80]!r}: {'the key stands twice' if key else 'no key'}; expected key=a,b,c, each key once."
            )
        if equals:
            given[key] = text
    own = {key: given.pop(key) for key in [*given] if key in OWN}
    axes = {key: split_values(text) for key, text in given.items()}
    program = program_of(configs[0], [f"program={given['program']}"] if "program" in given else [])
    package = program.partition(".")[0]
    sweep = Sweep(
        config=configs[0],
        axes=axes,
        out=repo_path(own.get("out", f"runs/sweep/{Path(configs[0]).stem}")),
        program=program,
        evaluate=own.get("evaluate", f"configs/{package.removesuffix('_modified')}/inference_clusters.yaml"),
        choose=own.get("choose"),
        show_test=_flag(own, "show_test"),
        own=own,
    )
    _flag(own, "table")
    if sweep.scorer not in programs_of(package):
        raise UserError(
            f"{configs[0]} is for {program}: a sweep compares scores, and there is no {sweep.scorer} to give them."
        )
    empty = [key for key, values in axes.items() if not values]
    if empty:
        raise UserError(f"{', '.join(empty)} has no value; expected key=a,b,c.")
    num = math.prod(map(len, axes.values()))
    if num > MOST_POINTS:
        raise UserError(f"{num} points are more than {MOST_POINTS}: give fewer values.")
    if num < 2:
        raise UserError("a sweep needs two points or more: give some key several values, key=a,b,c.")
    names = [sweep.name(point) for point in sweep.points]
    longest = max(names, key=len)
    if len(longest.encode()) > LONGEST_NAME - len(".txt"):
        raise UserError(
            f"a folder cannot be called {longest[:60]}…: its name would be {len(longest)} long. Vary fewer keys."
        )
    if len(set(names)) < len(names):
        raise UserError(f"two points are called {next(n for n in names if names.count(n) > 1)}; give each value once.")
    return sweep


def _flag(own: dict[str, str], name: str) -> bool:
    text = own.get(name, "false")
    if text not in ("true", "false"):
        raise UserError(f"{name}={text[:40]}: expected true or false.")
    return text == "true"


def split_values(text: str) -> list[str]:
    """`a,b,[c,d]` to `a`, `b`, `[c,d]`: commas in brackets do not separate.

    Raises:
        UserError: a bracket without its partner.
    """
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "[{(") - (letter in "]})")
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
        if depth < 0:
            break
    if depth:
        raise UserError(f"{text[:80]!r} has a bracket without its partner; expected values such as a,[b,c].")
    return [part.strip() for part in parts if part.strip()]
