"""The keys of a config class: which there are, which one was meant, and sections that are one of several classes."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, core_schema

from shared.errors import UserError

TAG = "name"
"""The key that says which class a section of several is."""


LONGEST = 200
"""Characters of a given value that a message shows."""


def shorten(text: str) -> str:
    """The beginning of a text that is too long for a message."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


class ConfigError(UserError):
    """The configuration cannot be used; the message names the key."""


class OneOf:
    """A section that is one of several classes, the key `name` saying which: `Annotated[Base, OneOf(classes)]`.

    Args:
        classes: value of `name` → class, whose own `name` is a Literal of it; the first is the default.
        once: the keys of all classes in one, as runs saved such a section before each class had its own. A section that
            holds them all is such a one: what its class does not read is left out.
    """

    def __init__(self, classes: Mapping[str, type[BaseModel]], once: Sequence[str] = ()) -> None:
        self.classes, self.once = dict(classes), frozenset(once)
        self.default = next(iter(self.classes))

    def owners(self, key: str) -> list[str]:
        """Names of the classes that have this key."""
        return [name for name, config_class in self.classes.items() if key in config_class.model_fields]

    def without_leftovers(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The values without what a section saved in the old way holds of other classes."""
        own = self.classes.get(str(values.get(TAG, self.default)))
        if own is None or not self.once or not self.once <= values.keys():
            return dict(values)
        return {key: value for key, value in values.items() if key in own.model_fields or key not in self.once}

    def carried_over(self, earlier: Any, later: Mapping[str, Any]) -> Any:
        """What an earlier layer of a config leaves to a later one: under another name, only the keys that both have."""
        if not isinstance(earlier, Mapping):
            return earlier
        before = earlier.get(TAG, self.default)
        new = self.classes.get(str(later.get(TAG, before)))
        if new is None or new is self.classes.get(str(before)):
            return earlier
        return {key: value for key, value in earlier.items() if key in new.model_fields or not self.owners(key)}

    def choose(self, values: Mapping[str, Any], where: str = "") -> type[BaseModel]:
        """The class of these values.

        Args:
            values: the section.
            where: its place, with a dot at the end, for messages.

        Raises:
            ConfigError: an unknown name, or a key of another class.
        """
        name = values.get(TAG, self.default)
        if not isinstance(name, str) or name not in self.classes:
            near = difflib.get_close_matches(str(name), self.classes, n=3)
            near.sort(key=lambda other: sorted(other) != sorted(str(name)))  # `fqs` is `fsq` more likely than `lfq`
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ConfigError(f"{where}{TAG}: {name!r} is none of {', '.join(self.classes)}{hint}")
        own = self.classes[name]
        for key in values:
            owners = [] if key in own.model_fields else self.owners(key)
            if owners:
                keys = ", ".join(k for k in own.model_fields if k != TAG)
                raise ConfigError(
                    f"{where}{key} is a key of {', '.join(owners)}; {where}{TAG} is {name}, whose keys are {keys}"
                )
        return own

    def _complete(self, values: Any) -> Any:
        if isinstance(values, str):
            raise ConfigError(f"a section is expected, whose key {TAG} is one of {', '.join(self.classes)}")
        if not isinstance(values, Mapping):
            return values
        values = self.without_leftovers(values)
        self.choose(values)
        return {TAG: self.default, **values}

    def __get_pydantic_core_schema__(self, _source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(config_class) for name, config_class in self.classes.items()}
        tagged = core_schema.tagged_union_schema(choices, discriminator=TAG)
        return core_schema.no_info_before_validator_function(self._complete, tagged)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # In a YAML with a `base:` the name may stand in another file, so that a section may suit several classes.
        found = dict(handler(schema))
        found.pop("discriminator", None)
        return {("anyOf" if key == "oneOf" else key): value for key, value in found.items()}


# ---------------------------------------------------------------- what a class has


def plain_types(annotation: Any) -> set[Any]:
    """The plain types in an annotation: `tuple[int, ...] | None` -> {tuple, NoneType}."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return set().union(*(plain_types(arg) for arg in get_args(annotation)))
    if origin is Annotated:
        return plain_types(get_args(annotation)[0])
    return {origin or annotation}


def section_of(field: FieldInfo | None) -> OneOf | type[BaseModel] | None:
    """The section that a field holds, if it holds one; a OneOf where that is one of several classes."""
    if field is None:
        return None
    for part in field.metadata:
        if isinstance(part, OneOf):
            return part
    for kind in plain_types(field.annotation):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def known_keys(config_class: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys, once each; of a section that is one of several classes, those of all of them."""
    for name, field in config_class.model_fields.items():
        yield prefix + name
        section = section_of(field)
        classes = section.classes.values() if isinstance(section, OneOf) else [section] if section is not None else []
        yield from dict.fromkeys(key for part in classes for key in known_keys(part, f"{prefix}{name}."))


# ---------------------------------------------------------------- layers, and keys that are none


def merge(into: dict[str, Any], values: Mapping[str, Any], config_class: type[BaseModel] | None) -> dict[str, Any]:
    """Put the values of a later layer over those of the earlier ones, section by section.

    Where a layer gives a section that is one of several classes another `name`, the earlier layers' keys of other classes go;
    where it gives one spelling of a key, the other one of the earlier layers goes.
    """
    older = getattr(config_class, "also_read", {})
    twins = {**older, **{key: spelling for spelling, key in older.items()}}
    for key, value in values.items():
        if twins.get(key) in into and twins[key] not in values:
            del into[twins[key]]
        section = section_of(config_class.model_fields.get(key)) if config_class is not None else None
        if not isinstance(value, dict):
            into[key] = value
            continue
        earlier = into.get(key)
        if isinstance(section, OneOf):
            value = section.without_leftovers(value)
            earlier, section = section.carried_over(earlier, value), None
        into[key] = merge(earlier if isinstance(earlier, dict) else {}, value, section)
    return into


def refuse_unknown(config_class: type[BaseModel], values: Mapping[str, Any], origin: str) -> None:
    """Refuse a key that no section has, naming the nearest, and a key of another class than the chosen one."""
    known = list(known_keys(config_class))

    def walk(cls: type[BaseModel], level: Mapping[str, Any], prefix: str) -> None:
        for key, value in level.items():
            dotted = f"{prefix}{key}"
            if key not in cls.model_fields and key not in getattr(cls, "also_read", ()):
                raise ConfigError(f"unknown key {shorten(repr(dotted))}{nearest(dotted, known)}{origin}")
            section = section_of(cls.model_fields.get(key))
            if not isinstance(value, Mapping) or section is None:
                continue
            walk(section.choose(value, f"{dotted}.") if isinstance(section, OneOf) else section, value, f"{dotted}.")

    walk(config_class, values, "")


def nearest(dotted: str, known: Sequence[str]) -> str:
    """The end of a message on an unknown key: the nearest known one, or all."""
    same_name = [key for key in known if key.split(".")[-1] == dotted.split(".")[-1]]
    close = same_name[:1] or difflib.get_close_matches(dotted, known, n=1, cutoff=0.6)
    if not close:
        last = {key.split(".")[-1]: key for key in known}
        names = difflib.get_close_matches(dotted.split(".")[-1], last, n=1, cutoff=0.6)
        close = [last[name] for name in names]
    return f"; did you mean {close[0]!r}?" if close else f"; the keys here are {', '.join(known)}."


def explain(detail: Any, config_class: type[BaseModel]) -> str:
    """One line of a pydantic error; list positions and union branches, which pydantic adds, are shown as they help."""
    parts: list[str] = []
    level: OneOf | type[BaseModel] | None = config_class
    for part in detail["loc"]:
        if isinstance(level, OneOf):  # pydantic names the class; in the config it has no place
            level = level.classes[part]
            continue
        parts.append(str(part))
        level = section_of(level.model_fields.get(part)) if level is not None else None
    given = detail.get("input")
    shown = "" if isinstance(given, Mapping) else f" (given: {shorten(repr(given))})"
    return f"{'.'.join(parts) or 'config'}: {detail['msg'].removeprefix('Value error, ')}{shown}"
