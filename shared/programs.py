"""What can be run: each package's table of its programs, and the way from a YAML's `program:` to it.

    python -m shared.programs                             lists them
    python -m shared.programs PROGRAM|CONFIG [key=value …]  prints what `scripts/launch.sh` starts

A package's table is the dict `PROGRAMS` of its module `programs`, found by name: `st_mem_modified.pretrain` stands in
`st_mem_modified.programs`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shared.config import REPO_ROOT, Choice, Section, asks_for_help, entry_point, read_program
from shared.errors import UserError, did_you_mean


@dataclass(frozen=True)
class Program:
    """One line of a package's table.

    Attributes:
        config: `module:name` of its config class or, where a key decides between several, their `Choice`; as text, so that
            naming a program imports nothing.
        module: what `python -m` runs.
        parallel: whether it runs as one process per GPU; any other takes the first of several GPUs.
    """

    config: str
    module: str
    parallel: bool = True

    def config_class(self) -> type[Section] | Choice[Any]:
        """The config class, imported now."""
        module, _, name = self.config.partition(":")
        found: type[Section] | Choice[Any] = getattr(importlib.import_module(module), name)
        return found


def programs_of(package: str) -> Mapping[str, Program]:
    """The table of a package; empty where it has none."""
    name = f"{package}.programs"
    try:
        table: Mapping[str, Program] = getattr(importlib.import_module(name), "PROGRAMS", {})
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the table is there, and something that it imports is not
        return {}
    return table


def all_programs() -> dict[str, Program]:
    """The tables of every package of this checkout together."""
    files = [*REPO_ROOT.glob("*/programs.py"), *REPO_ROOT.glob("shared/*/programs.py")]
    packages = sorted(".".join(file.parent.relative_to(REPO_ROOT).parts) for file in files)
    return {name: program for package in packages for name, program in programs_of(package).items()}


def find_program(name: str) -> Program:
    """The program of this name.

    Raises:
        UserError: there is none; names the nearest, and all.
    """
    table = programs_of(name.rpartition(".")[0]) if "." in name and not name.startswith(".") else {}
    if name in table:
        return table[name]
    every = all_programs()
    raise UserError(f"unknown program {name!r}{did_you_mean(name, every, 0.6)} Programs: {', '.join(every)}.")


def program_of(config: str, overrides: Sequence[str] = ()) -> str:
    """The name of the program that a YAML, or its `base:`, says.

    Raises:
        UserError: it says none, or one that does not exist.
    """
    name = read_program(config, overrides)
    if name is None:
        raise UserError(
            f"{config} does not say which program reads it. Add the line `program: NAME`, one of: {', '.join(all_programs())}."
        )
    find_program(name)
    return name


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    given, settings = [arg for arg in argv if arg and "=" not in arg], [arg for arg in argv if "=" in arg]
    if not given or asks_for_help(given[:1]):
        print("usage: bash scripts/run.sh CONFIG [key=value …], where the YAML says which program reads it:")
        print("\n".join(f"  program: {name}" for name in all_programs()))
        raise SystemExit(0 if given else 2)
    name = given[0]
    if "/" in name or name.endswith((".yaml", ".yml")):
        name = program_of(name, [setting for setting in settings if setting.startswith("program=")])
    program = find_program(name)
    print("parallel" if program.parallel else "single", program.module)


if __name__ == "__main__":
    entry_point(main)
