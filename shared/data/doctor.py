"""Look at a machine, or at a downloaded database, before hours are spent on it; each line says what is so and what to do.

    python -m shared.data.doctor                             the environment
    python -m shared.data.doctor PATH [key=value …]          a database: which, whether whole, readable, and what it costs
                                                             to prepare; keys of `prepare` (rate=100, fs=500) count too

Exit code 0: nothing is wrong; 1: something is. Nothing is written.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator

from shared.config import REPO_ROOT, Section, asks_for_help, entry_point, load_config, repo_path
from shared.data.databases import WFDB, Database, look_around, recognise
from shared.data.environment import check_environment
from shared.data.probe import check_index, first_source, prepare_config, probe, read_index
from shared.data.sources import SOURCES
from shared.data.sources.base import PrepareConfig
from shared.data.wholeness import (
    Finding,
    Tree,
    check_headers,
    check_records,
    check_sums,
    read_tree,
    tell_closed,
    tell_damaged,
    tell_missing,
    tell_unfinished,
)
from shared.errors import UserError, did_you_mean

USAGE = "usage: bash scripts/doctor.sh [PATH] [key=value …]   (0: nothing wrong, 1: something is)"


class DoctorConfig(Section):
    """How a database is looked at."""

    source: str | None = Field(None, description="what it is to be read by; null: what the folder looks like")
    checksums: Literal["true", "false", "sample"] = Field("true", description="true | false | sample: of 200 files")
    probe: int = Field(32, ge=1, description="records that are tried")
    subset: bool = Field(False, description="a part of the database is what is wanted: missing records are not wrong")

    @field_validator("checksums", mode="before")
    @classmethod
    def _text(cls, value: object) -> object:
        return str(value).lower() if isinstance(value, bool) else value


def examine(path: Path, config: DoctorConfig, settings: Sequence[str] = ()) -> Iterator[Finding]:
    """Everything about a downloaded database, one finding after another.

    Args:
        path: its folder.
        config: how it is looked at.
        settings: `key=value` of `prepare`.

    Raises:
        UserError: a source that there is not, or a key that `prepare` does not have.
    """
    if config.source is not None and config.source not in SOURCES:
        hint = did_you_mean(config.source, SOURCES)
        raise UserError(f"source: {config.source!r} is not one of {', '.join(SOURCES)}{hint}")
    closed = refuse(path)
    if closed is not None:
        yield closed
        return
    database = recognise(path, config.source)
    if database is None:
        yield unknown(path)
        return
    source = first_source(database.sources)
    yield Finding("ok", f"it is {database.title}" + (f", read by source={source}" if source else ""))
    if config.source not in (None, source, WFDB.sources[0]):
        yield Finding(
            "WRONG",
            f"source={config.source} was asked for, but this is {database.title}",
            f"give source={source}, or the folder of the other database",
        )
        return
    near = look_around(path) if database is WFDB else None
    if near is not None:
        yield Finding("note", f"{near[0]} is {near[1].title}", "give that folder to have it read with its labels")
    tree = read_tree(path)
    if tree.closed:
        yield from tell_closed(tree)
        return
    yield from check_files(tree, database, config)
    source = config.source or source
    if source is None:
        yield Finding(
            "note", f"no source of this project reads {database.title}; shared/data/sources is where one would be"
        )
        return
    yield from check_readable(tree, database, config, prepare_config(source, path, database.name, settings), settings)


def refuse(path: Path) -> Finding | None:
    """Why a path cannot be looked into at all."""
    again = "give the folder of the unpacked database"
    if not path.exists():
        return Finding("WRONG", f"{path} does not exist", again)
    if not path.is_dir():
        archive = path.suffix in (".zip", ".gz", ".tar", ".tgz")
        return Finding("WRONG", f"{path} is a file", f"unpack it, and {again}" if archive else again)
    if not os.access(path, os.R_OK | os.X_OK):
        return Finding(
            "WRONG", f"{path} may not be read by you", f"chmod -R u+rX {shlex.quote(str(path))}, or ask its owner"
        )
    if not any(path.iterdir()):
        return Finding(
            "WRONG", f"{path} is empty", "fetch a database: bash scripts/data/download_ptbxl.sh out=… and its like"
        )
    return None


def unknown(path: Path) -> Finding:
    """A folder that is no database: what is near, or what was expected."""
    near = look_around(path)
    if near is not None:
        return Finding("WRONG", f"{path} is no database", f"{near[0]} is {near[1].title}: give that folder")
    some = ", ".join(sorted(entry.name for entry in path.iterdir())[:4])
    return Finding(
        "WRONG",
        f"{path} is no database that is known, and holds no WFDB header (*.hea); it holds {some}",
        "give the folder that holds RECORDS, or the database's table",
    )


def check_files(tree: Tree, database: Database, config: DoctorConfig) -> Iterator[Finding]:
    """What is missing, truncated, changed or unfinished."""
    fetch = (
        f"fetch it again: {command}" if (command := database.fetch(tree.root)) else "copy it again from where it came"
    )
    yield from tell_unfinished(tree, fetch)
    missing, named = check_records(tree)
    absent, damaged = check_headers(tree)
    missing |= absent
    listed, changed, said = check_sums(tree, config.checksums, missing | damaged.keys())
    yield from tell_missing(tree, missing | listed, database.optional, config.subset, fetch)
    yield from tell_damaged({**damaged, **changed}, fetch)
    if named and not missing:
        yield Finding("ok", f"RECORDS: {named} records named, all are here")
    if tree.headers and not damaged:
        yield Finding("ok", f"{len(tree.headers)} headers, signal files as long as they say")
    yield Finding("note" if "no list" in said or "not looked" in said else "ok", said)
    headers = [Path(name).parts for name in tree.headers]
    for cohort, expected in database.cohorts.items():
        if found := sum(cohort in parts[:-1] for parts in headers):
            yield tell_count(cohort, found, expected, config.subset, database.fetch(tree.root))


def check_readable(
    tree: Tree, database: Database, config: DoctorConfig, prepare: PrepareConfig, settings: Sequence[str]
) -> Iterator[Finding]:
    """Whether the source finds as many records as were published, reads them, and what preparing takes."""
    try:
        index, said = read_index(prepare)
    except (UserError, OSError) as error:
        yield Finding("WRONG", f"source={prepare.source} cannot list the records: {error}", database.fetch(tree.root))
        return
    missing, findings = check_index(prepare, index, tree)
    yield from [*said, *findings]
    yield from tell_missing(tree, missing, (), config.subset, database.fetch(tree.root))
    if database.records is not None:
        found = len(index) - len(missing)
        yield tell_count(database.title, found, database.records, config.subset, database.fetch(tree.root))
    yield from probe(prepare, index, config.probe)
    yaml = f"configs/data/{prepare.source}.yaml"
    place = [f"root={tree.root}", f"out={os.path.relpath(prepare.out, REPO_ROOT)}"]
    given = [setting for setting in settings if not setting.startswith(("root=", "out="))]
    yield Finding("ok", "prepare it: " + shlex.join(["bash", "scripts/prepare_data.sh", yaml, *place, *given]))


def tell_count(what: str, found: int, expected: int, subset: bool, fetch: str) -> Finding:
    """Records found against those published."""
    if found == expected:
        return Finding("ok", f"{found} records, as many as {what} has")
    if found > expected:
        return Finding("note", f"{found} records, {found - expected} more than {what} has: is it another release?")
    text = f"{found} of the {expected} records of {what} are here"
    if subset:
        return Finding("note", text)
    return Finding("WRONG", text, f"fetch the rest: {fetch}; or say subset=true, if a part is what you want")


def show(findings: Iterator[Finding]) -> bool:
    """Print each as it is found; whether nothing is wrong."""
    wrong = 0
    for finding in findings:
        do = f"  → {finding.do}" if finding.do else ""
        print(f"{finding.level:<5}  {finding.text}{do}", flush=True)
        wrong += finding.level == "WRONG"
    print(f"{wrong} thing(s) wrong" if wrong else "nothing is wrong")
    return not wrong


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if asks_for_help(argv):
        from shared.help import describe

        print(__doc__, *describe(DoctorConfig), sep="\n")
        return
    paths, settings = [arg for arg in argv if "=" not in arg], [arg for arg in argv if "=" in arg]
    if len(paths) > 1:
        raise UserError(f"one folder is expected, {len(paths)} given: {', '.join(paths)}. {USAGE}")
    own = [setting for setting in settings if setting.partition("=")[0] in DoctorConfig.model_fields]
    others = [setting for setting in settings if setting not in own]
    config = load_config(DoctorConfig, None, own)
    if not paths and settings:
        raise UserError(f"{settings[0]} is about a database, but no PATH is given. {USAGE}")
    if not show(examine(repo_path(paths[0]), config, others) if paths else check_environment()):
        raise SystemExit(1)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` ends it without a word
    entry_point(main)
