"""From YAML and `key=value` to a validated, frozen config.

Order: class defaults < `base:` file(s) < the YAML < `key=value`. An unknown key, a wrong type or a value out of range
stops the run before anything is loaded, and names the nearest right key. Relative paths count from the repository root.
`program:` says which program reads a YAML (`shared.programs`); it is no key of a config.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, PrivateAttr, ValidationError, model_validator

from shared.config_keys import ConfigError, explain, merge, plain_types, refuse_unknown, shorten
from shared.errors import NO_ROOM, UserError, did_you_mean

REPO_ROOT = Path(__file__).resolve().parents[1]
LONGEST_NAME = 255
"""Bytes of one name in a path, on every file system in use."""
MOST_VALUES = 20_000
"""Of one YAML with its aliases written out. A config has some hundred; a bomb of nested aliases has billions."""


def repo_path(path: str | Path) -> Path:
    """Absolute form of a path; a relative one counts from the repository root.

    Raises:
        ConfigError: no file system can have it.
    """
    if "\0" in str(path) or any(len(os.fsencode(part)) > LONGEST_NAME for part in Path(path).parts):
        raise ConfigError(
            f"{shorten(str(path))} is no path: a name in it has a NUL or is over {LONGEST_NAME} bytes long."
        )
    try:
        path = Path(path).expanduser()
    except RuntimeError as error:  # ~somebody who has no home here
        raise ConfigError(f"{shorten(str(path))} is no path: {error}.") from None
    return path if path.is_absolute() else Path(*(REPO_ROOT / path).parts).resolve()


RepoPath = Annotated[Path, BeforeValidator(lambda value: repo_path(value) if isinstance(value, str | Path) else value)]


class Section(BaseModel):
    """One section of a config: frozen, and no key beyond the declared ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)
    also_read: ClassVar[Mapping[str, str]] = {}
    """Older spelling of a key → the key; a validator of the class understands it."""
    _program: str | None = PrivateAttr(None)
    """What the whole config was read for; written into the run folder's YAML, and no part of what was configured."""

    @model_validator(mode="before")
    @classmethod
    def _friendly_values(cls, values: Any) -> Any:
        """`a,b,c` is a list where a list is wanted; `true` is not a number."""
        if not isinstance(values, Mapping):
            return values
        values = dict(values)
        for name, field in cls.model_fields.items():
            value = values.get(name)
            kinds = plain_types(field.annotation)
            items = value if isinstance(value, list | tuple) else [value]
            if any(isinstance(item, bool) for item in items) and bool not in kinds and {int, float, tuple} & kinds:
                raise ValueError(f"{name}: {value!r} is a truth value where none is expected")
            if isinstance(value, str) and tuple in kinds and str not in kinds:
                values[name] = [part.strip() for part in value.split(",") if part.strip()]
            elif isinstance(value, int | float) and tuple in kinds and not {int, float} & kinds:
                values[name] = [value]
        return values


C = TypeVar("C", bound=Section)


@dataclass(frozen=True)
class Choice(Generic[C]):
    """Several config classes of one program, told apart by the value of one key."""

    key: str
    classes: Mapping[str, type[C]]

    def pick(self, values: Mapping[str, Any]) -> type[C]:
        """The class that the values name.

        Raises:
            ConfigError: none of them.
        """
        name = values.get(self.key)
        if not isinstance(name, str) or name not in self.classes:
            hint = did_you_mean(name, self.classes)
            raise ConfigError(f"{self.key}: {shorten(repr(name))} is not one of {', '.join(self.classes)}{hint}")
        return self.classes[name]


def load_config(
    config_class: type[C] | Choice[C],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
    program: str | None = None,
) -> C:
    """Read a YAML (and its `base:` files), apply `key=value` overrides, and validate.

    Args:
        config_class: the class, or a choice of them (where one key decides).
        path: the YAML; None takes the defaults.
        overrides: `section.key=value`, the value written as in YAML.
        program: who reads; a YAML of another program is refused. None reads any.

    Raises:
        ConfigError: a missing or broken file, another program's, an unknown key, a wrong type or a value out of range.
    """
    layers = _read_layers(path, overrides)
    said = _program_of(layers)
    if program is not None and said not in (None, program):
        raise _other_program(said, program, path)
    top = {key: value for layer in layers for key, value in layer.items()}
    chosen = config_class.pick(top) if isinstance(config_class, Choice) else config_class
    values: dict[str, Any] = {}
    for layer in layers:
        merge(values, {key: value for key, value in layer.items() if key != "program"}, chosen)
    origin = f" in {path}" if path is not None else ""
    refuse_unknown(chosen, values, f" ({path}{' or key=value' if overrides else ''})" if path is not None else "")
    try:
        config = chosen.model_validate(values)
    except ValidationError as error:
        lines = [explain(detail, chosen) for detail in error.errors()]
        raise ConfigError(f"invalid configuration{origin}:\n  " + "\n  ".join(lines)) from None
    config._program = program or said
    return config


def read_program(path: str | Path, overrides: Sequence[str] = ()) -> str | None:
    """The program that a YAML, its `base:` or `key=value` names."""
    return _program_of(_read_layers(path, overrides))


def config_from_cli(config_class: type[C] | Choice[C], argv: Sequence[str], program: str | None = None) -> C:
    """Config of `CONFIG.yaml key=value …`; the YAML may be left out where the defaults are enough."""
    if asks_for_help(argv):
        print("usage: [CONFIG.yaml] [key=value …]" + (f"   (a YAML of `program: {program}`)" if program else ""))
        print("\n".join(importlib.import_module("shared.help").describe(config_class)))  # by name: no run needs it
        raise SystemExit(0)
    paths = [arg for arg in argv if "=" not in arg]
    if len(paths) > 1:
        raise ConfigError(f"one config file is expected, {len(paths)} were given: {', '.join(paths)}.")
    return load_config(config_class, paths[0] if paths else None, [arg for arg in argv if "=" in arg], program)


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether `-h` or `--help` is among the arguments."""
    return "-h" in argv or "--help" in argv


def entry_point(main: Callable[[Sequence[str]], object]) -> None:
    """Run `main(argv)`; a UserError, or a disk without room, is printed as one message and ends with exit code 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        message = str(error)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        message = (
            f"{error.filename or 'a file'} could not be written: {error.strerror}. Make room and run the command again."
        )
    except KeyboardInterrupt:
        print("stopped before the end; nothing half-written is left", file=sys.stderr)
        raise SystemExit(130) from None
    else:
        return
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)


def to_yaml(config: Section) -> str:
    """The resolved config as YAML, keys in declaration order, its program first where it was read for one."""
    program = {"program": config._program} if config._program else {}
    return yaml.safe_dump({**program, **config.model_dump(mode="json")}, sort_keys=False, allow_unicode=True)


# ---------------------------------------------------------------- reading


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `5e-4` is a number (YAML 1.1 wants a dot and a sign) and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)
# A date is text: no key takes one, and `2001-13-45` would end in a traceback.
_Loader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for letter, found in _Loader.yaml_implicit_resolvers.items()
}


def _parse(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        yaml.YAMLError: it is none, or nests too deeply, or holds too much once its aliases are written out.
    """
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
        num = _count_values(value, {})
    except yaml.YAMLError:
        raise
    except RecursionError:
        raise yaml.YAMLError("it nests too deeply, or an alias stands inside itself") from None
    except Exception as error:  # PyYAML raises anything on a value that is not of its tag
        raise yaml.YAMLError(f"a value is not what its tag says ({type(error).__name__}: {error})") from None
    if num > MOST_VALUES:
        raise yaml.YAMLError(f"it holds more than {MOST_VALUES} values once its aliases are written out")
    return value


def _count_values(value: Any, known: dict[int, int]) -> int:
    """Values inside a value, each alias counted as often as it stands; in time linear in what is written."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        inner = [*value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count_values(item, known) for item in inner)
    return known[id(value)]


def _find_config(path: str | Path) -> Path:
    """A config named relative to the working folder or, failing that, to the repository root."""
    found = repo_path(path)
    here = Path(path).expanduser()
    if here.is_file():
        return here.resolve()
    if found.is_file():
        return found
    nearby = sorted(p.name for p in found.parent.glob("*.yaml")) if found.parent.is_dir() else []
    hint = f" In that folder: {', '.join(nearby)}." if nearby else ""
    raise ConfigError(f"config file {shorten(str(path))} does not exist.{hint}")


def _read_layers(path: str | Path | None, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Everything that was given: the YAML and what it builds on, the deepest first, then `key=value`."""
    layers = _read_yaml(_find_config(path)) if path is not None else []
    given: dict[str, Any] = {}
    for override in overrides:
        _apply_override(given, override)
    layers.append(given)
    wrong = [layer["program"] for layer in layers if not isinstance(layer.get("program", ""), str)]
    if wrong:
        raise ConfigError(f"`program:` is {wrong[0]!r}; expected a name such as st_mem_modified.pretrain.")
    return layers


def _program_of(layers: Sequence[Mapping[str, Any]]) -> str | None:
    """The program that the last of them names."""
    return next((layer["program"] for layer in reversed(layers) if "program" in layer), None)


def _read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> list[dict[str, Any]]:
    """The values of a file and of those it builds on, which come first: later ones count."""
    if path in seen:
        raise ConfigError(f"`base:` goes in a circle: {' -> '.join(str(p) for p in (*seen, path))}.")
    try:
        values = _parse(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__} where `key: value` lines are expected.")
    bases = values.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: `base:` is {bases!r}; expected the path of a YAML, or a list of them.")
    below = [_read_yaml(_find_config(repo_path(base)), (*seen, path)) for base in bases]
    if "program" not in values and len({_program_of(layers) for layers in below} - {None}) > 1:
        raise ConfigError(f"{path} has bases of several programs and does not say its own: add a line `program: …`.")
    return [*(layer for layers in below for layer in layers), values]


def _apply_override(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"{override!r} is not of the form section.key=value.")
    try:
        value = _parse(text)
    except yaml.YAMLError:
        value = text  # a path or name with YAML's special characters stands for itself
    *parents, last = dotted.strip().split(".")
    for key in parents:
        child = values.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{override!r} sets a key below {key!r}, which holds the value {child!r}.")
        values = child
    values[last] = value


def _other_program(said: str, program: str, path: str | Path | None) -> ConfigError:
    # By name, and only once something is wrong: no run imports the tables of the programs.
    importlib.import_module("shared.programs").find_program(said)  # one that does not exist has a message of its own
    return ConfigError(
        f"{path or 'program='} is for {said}, not for {program}. Run it by its own program: "
        f"bash scripts/run.sh {path or 'CONFIG'} …, or give a YAML that says `program: {program}`."
    )
