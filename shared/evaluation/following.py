"""`protocol: NAME` in a config: the preset's settings below the keys that are written out, which win and are named.

Source of the presets: `shared.evaluation.presets`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from shared.config_keys import merge
from shared.data.tasks import TASKS
from shared.errors import did_you_mean
from shared.evaluation.presets import EVALUATION, PRESETS, Preset


@dataclass(frozen=True)
class Followed:
    """The preset that a run follows; `deviations` are its keys with other values, `key = value (protocol: value)`."""

    name: str
    part: str
    deviations: tuple[str, ...]

    @property
    def preset(self) -> Preset:
        """Its settings and source."""
        return PRESETS[self.name]

    @property
    def notes(self) -> list[str]:
        """What a reader must know of it, in sentences."""
        but = f", but for {'; '.join(self.deviations)}" if self.deviations else ", every setting as it says"
        said = [f"protocol {self.name} ({self.preset.source}){but}"]
        return [*said, *(f"protocol {self.name}, not followed: {text}" for text in self.preset.parts[self.part].apart)]


def under_preset(values: Any, part: str, config_class: type[BaseModel]) -> Any:
    """The values of a config over the settings of the preset that they name; as they are where they name none.

    Args:
        values: as given, before they are checked.
        part: kind of run; a fine-tuning gives its mode.
        config_class: whose keys these are.

    Raises:
        ValueError: an unknown preset, or one that says nothing of this task or this kind of run.
    """
    if not isinstance(values, Mapping) or values.get("protocol") is None:
        return values
    name, task = values["protocol"], values.get("task", config_class.model_fields["task"].default)
    preset = find_preset(name)
    if TASKS.get(task, task) not in preset.tasks:
        defined = ", ".join(known for known, column in TASKS.items() if column in preset.tasks)
        raise ValueError(
            f"protocol: {name} does not define the task {task!r}, only {defined}. Name one of these, another protocol, or "
            "write the settings out without `protocol`"
        )
    if part not in preset.parts:
        kinds = ", ".join(kind if kind == EVALUATION else f"mode={kind}" for kind in preset.parts)
        raise ValueError(f"protocol: {name} says nothing of {part!r}; it has {kinds}")
    return merge(merge({}, _copy(preset.parts[part].settings), config_class), dict(values), config_class)


def find_preset(name: object) -> Preset:
    """The preset of a name.

    Raises:
        ValueError: there is none; naming the nearest.
    """
    preset = PRESETS.get(name) if isinstance(name, str) else None
    if preset is None:
        hint = did_you_mean(str(name), PRESETS)
        raise ValueError(f"protocol: {name!r} is no preset{hint} The presets are {', '.join(PRESETS)}")
    return preset


def set_by_preset(name: object, part: str = EVALUATION) -> frozenset[str]:
    """Top-level keys that a preset sets; none where there is no such preset."""
    preset = PRESETS.get(name) if isinstance(name, str) else None
    return frozenset(preset.parts[part].settings) if preset is not None and part in preset.parts else frozenset()


def followed(config: BaseModel, part: str) -> Followed | None:
    """The preset that a checked config follows, and where it deviates; None where it names none.

    Args:
        config: an evaluation's or a fine-tuning's.
        part: as of `under_preset`.
    """
    name: str | None = getattr(config, "protocol", None)
    if name is None:
        return None
    found = _deviations(PRESETS[name].parts[part].settings, config.model_dump(mode="json"), "")
    return Followed(name, part, tuple(found))


def _deviations(settings: Mapping[str, Any], values: Mapping[str, Any], prefix: str) -> list[str]:
    found: list[str] = []
    for key, wanted in settings.items():
        if isinstance(wanted, Mapping):
            found += _deviations(wanted, values[key], f"{prefix}{key}.")
        elif values[key] != wanted:
            found.append(f"{prefix}{key} = {_say(values[key])} (protocol: {_say(wanted)})")
    return found


def _say(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else "null" if value is None else str(value)


def _copy(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in settings.items()}
