"""From YAML and `key=value` to a validated, frozen config.

Order: class defaults < `base:` file(s) < the YAML < `key=value`. An unknown key, a wrong type or a value out of range
stops the run before anything is loaded, and names the nearest right key. Relative paths count from the repository root.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from shared.config_keys import ConfigError, defaults, explain, merge, plain_types, refuse_unknown
from shared.errors import UserError

REPO_ROOT = Path(__file__).resolve().parents[1]


def repo_path(path: str | Path) -> Path:
    """Absolute form of a path; a relative one counts from the repository root."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else Path(*(REPO_ROOT / path).parts).resolve()


RepoPath = Annotated[Path, BeforeValidator(lambda value: repo_path(value) if isinstance(value, str | Path) else value)]


class Section(BaseModel):
    """One section of a config: frozen, and no key beyond the declared ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)

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


def load_config(
    config_class: type[C] | Callable[[Mapping[str, Any]], type[C]],
    path: str | Path | None = None,
    overrides: Sequence[str] = (),
) -> C:
    """Read a YAML (and its `base:` files), apply `key=value` overrides, and validate.

    Args:
        config_class: the class, or a function from the values to the class (where one key of the top level decides).
        path: the YAML; None takes the defaults.
        overrides: `section.key=value`, the value written as in YAML.

    Raises:
        ConfigError: a missing or broken file, an unknown key, a wrong type or a value out of range.
    """
    layers = _read_yaml(_find_config(path)) if path is not None else []
    given: dict[str, Any] = {}
    for override in overrides:
        _apply_override(given, override)
    layers.append(given)
    top = {key: value for layer in layers for key, value in layer.items()}
    chosen = cast("type[C]", config_class if isinstance(config_class, type) else config_class(top))
    values: dict[str, Any] = {}
    for layer in layers:
        merge(values, layer, chosen)
    origin = f" in {path}" if path is not None else ""
    refuse_unknown(chosen, values, f" ({path}{' or key=value' if overrides else ''})" if path is not None else "")
    try:
        return chosen.model_validate(values)
    except ValidationError as error:
        lines = [explain(detail, chosen) for detail in error.errors()]
        raise ConfigError(f"invalid configuration{origin}:\n  " + "\n  ".join(lines)) from None


def config_from_cli(config_class: type[C] | Callable[[Mapping[str, Any]], type[C]], argv: Sequence[str]) -> C:
    """Config of `CONFIG.yaml key=value …`; the YAML may be left out where the defaults are enough."""
    if "-h" in argv or "--help" in argv:
        chosen = config_class if isinstance(config_class, type) else None
        print("usage: CONFIG.yaml [key=value …]")
        if chosen is not None:
            print("keys and defaults:\n  " + "\n  ".join(f"{key} = {value}" for key, value in defaults(chosen)))
        raise SystemExit(0)
    paths = [arg for arg in argv if "=" not in arg]
    if len(paths) > 1:
        raise ConfigError(f"one config file is expected, {len(paths)} were given: {', '.join(paths)}.")
    return load_config(config_class, paths[0] if paths else None, [arg for arg in argv if "=" in arg])


def entry_point(main: Callable[[Sequence[str]], object]) -> None:
    """Run `main(argv)`; a UserError is printed as one message and ends with exit code 2."""
    try:
        main(sys.argv[1:])
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


def to_yaml(config: Section) -> str:
    """The resolved config as YAML, keys in declaration order."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def write_schema(config_class: type[Section], path: Path) -> None:
    """Write the JSON schema that lets editors complete and check keys."""
    schema = config_class.model_json_schema()
    schema["properties"] = {"base": {"description": "YAML file(s) to start from"}, **schema["properties"]}
    schema.pop("required", None)
    path.write_text(json.dumps(schema, indent=1) + "\n")


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


def _find_config(path: str | Path) -> Path:
    """A config named relative to the working folder or, failing that, to the repository root."""
    here = Path(path).expanduser()
    if here.is_file():
        return here.resolve()
    found = repo_path(path)
    if found.is_file():
        return found
    nearby = sorted(p.name for p in found.parent.glob("*.yaml")) if found.parent.is_dir() else []
    hint = f" In that folder: {', '.join(nearby)}." if nearby else ""
    raise ConfigError(f"config file {path} does not exist.{hint}")


def _read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> list[dict[str, Any]]:
    """The values of a file and of those it builds on, which come first: later ones count."""
    if path in seen:
        raise ConfigError(f"`base:` goes in a circle: {' -> '.join(str(p) for p in (*seen, path))}.")
    try:
        values = yaml.load(path.read_text(), Loader=_Loader) or {}  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__} where `key: value` lines are expected.")
    bases = values.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ConfigError(f"{path}: `base:` is {bases!r}; expected the path of a YAML, or a list of them.")
    layers = [layer for base in bases for layer in _read_yaml(_find_config(repo_path(base)), (*seen, path))]
    return [*layers, values]


def _apply_override(values: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    if not equals or not dotted:
        raise ConfigError(f"{override!r} is not of the form section.key=value.")
    try:
        value = yaml.load(text, Loader=_Loader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError:
        value = text  # a path or name with YAML's special characters stands for itself
    *parents, last = dotted.strip().split(".")
    for key in parents:
        child = values.setdefault(key, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{override!r} sets a key below {key!r}, which holds the value {child!r}.")
        values = child
    values[last] = value


def _main(argv: Sequence[str]) -> None:
    """`python -m shared.config OUT_DIR module:Class …` writes one JSON schema per config class."""
    if len(argv) < 2:
        raise ConfigError("usage: python -m shared.config OUT_DIR module:Class …")
    folder = repo_path(argv[0])
    folder.mkdir(parents=True, exist_ok=True)
    for target in argv[1:]:
        module, _, name = target.partition(":")
        config_class = getattr(importlib.import_module(module), name)
        path = folder / f"{module}.{name}.json"  # the whole module: several sources call their class Config
        write_schema(config_class, path)
        print(f"wrote {path}")


if __name__ == "__main__":
    entry_point(_main)
