"""JSON schemas of the YAMLs, one per program, so that editors complete and check keys.

python -m shared.schemas configs/schemas
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from pydantic import TypeAdapter

from shared.config import Choice, entry_point, repo_path
from shared.errors import UserError
from shared.programs import Program, all_programs


def make_schema(name: str, program: Program) -> dict[str, Any]:
    """The schema of a program's YAMLs. Nothing is required in one file: a `base:` may hold the rest."""
    known = program.config_class()
    classes = list(known.classes.values()) if isinstance(known, Choice) else [known]
    schema: dict[str, Any] = TypeAdapter(reduce(or_, classes)).json_schema()
    parts = schema.get("$defs", {})
    whole = [parts[one["$ref"].rpartition("/")[2]] for one in schema["anyOf"]] if len(classes) > 1 else [schema]
    ours = {
        "program": {"const": name, "description": "the program that reads this file"},
        "base": {"description": "YAML file(s) to start from"},
    }
    for part in whole:
        part["properties"] = ours | part["properties"]
    for part in (schema, *parts.values()):
        part.pop("required", None)
    return schema


def main(argv: Sequence[str]) -> None:
    """Entry point."""
    if len(argv) != 1 or "=" in argv[0] or argv[0].startswith("-"):
        raise UserError("usage: python -m shared.schemas FOLDER, where one schema per program is written.")
    folder = repo_path(argv[0])
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in all_programs().items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(make_schema(name, program), indent=1) + "\n")
        print(f"wrote {path}")


if __name__ == "__main__":
    entry_point(main)
