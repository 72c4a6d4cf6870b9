"""What `--help` prints: every key of a config class with its default, what it takes, and what it is."""

from __future__ import annotations

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from shared.config import REPO_ROOT, Choice, Section
from shared.config_keys import TAG, OneOf, section_of

C = TypeVar("C", bound=Section)


def describe(config_class: type[C] | Choice[C]) -> list[str]:
    """One line per key: its default, its type or choices, its description; keys of a choice under what chooses them."""
    title = "key = default  (what it takes)  what it is"
    if not isinstance(config_class, Choice):
        return [title, *(line for _, line in _describe(config_class, None))]
    every = {name: dict(_describe(one, None)) for name, one in config_class.classes.items()}
    first = next(iter(every.values()))
    common = {key: line for key, line in first.items() if all(key in rows for rows in every.values())}
    common[config_class.key] = f"{config_class.key}  ({' | '.join(every)})"
    lines = [title, *common.values()]
    for name, rows in every.items():
        own = [line for key, line in rows.items() if key != config_class.key and common.get(key) != line]
        lines += ["", f"{config_class.key}={name}:", *own]
    return lines


def _describe(cls: type[BaseModel], default: Any, prefix: str = "", only: str = "") -> Iterator[tuple[str, str]]:
    """Key and line. `default`: the section as its parent has it by default, where it can be without being given."""
    for name, field in cls.model_fields.items():
        key = prefix + name
        value = getattr(default, name) if default is not None else field.get_default(call_default_factory=True)
        section = section_of(field)
        if isinstance(section, OneOf):
            yield from _describe_each(section, value, f"{key}.")
        elif section is not None:
            if value is None:
                yield key, f"{key} = null  (or some of the keys below)  {field.description or ''}".rstrip() + only
            yield from _describe(section, value if type(value) is section else None, f"{key}.", only)
        else:
            given = " (required)" if value is PydanticUndefined else f" = {_shown(value)}"
            yield key, f"{key}{given}  ({_takes(field)})  {field.description or ''}".rstrip() + only


def _describe_each(section: OneOf, default: Any, prefix: str) -> Iterator[tuple[str, str]]:
    """The choice, then the keys of each class, those of several once."""
    yield prefix + TAG, f"{prefix}{TAG} = {getattr(default, TAG, section.default)}  ({' | '.join(section.classes)})"
    seen: set[str] = set()
    for name, config_class in section.classes.items():
        value = default if type(default) is config_class else None
        for key, line in _describe(config_class, value, prefix):
            owners = section.owners(key.removeprefix(prefix).partition(".")[0])
            if key != prefix + TAG and line not in seen:
                seen.add(line)
                yield f"{key} {name}", line + ("" if owners == list(section.classes) else f"  [{', '.join(owners)}]")


def _shown(value: Any) -> str:
    """A default as it would be written on the command line."""
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, Path) and value.is_relative_to(REPO_ROOT):
        return value.relative_to(REPO_ROOT).as_posix()
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _takes(field: FieldInfo) -> str:
    """`int or null, ≥ 1` and the like."""
    limits = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    found = [
        f"{sign} {getattr(m, name):g}" for m in field.metadata for name, sign in limits.items() if hasattr(m, name)
    ]
    return ", ".join([_kind(field.annotation), *found])


def _kind(annotation: Any) -> str:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_kind, args))
    if origin is Annotated:
        return _kind(args[0])
    if origin is Literal:
        return " | ".join(map(str, args))
    if origin is tuple:
        return f"list of {_kind(args[0])}" if Ellipsis in args else f"[{', '.join(map(_kind, args))}]"
    names = {type(None): "null", str: "text", bool: "true | false", float: "number", Path: "path"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))
