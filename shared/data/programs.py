"""The programs of the data: the name that a YAML's `program:` gives → its config classes and module."""

from shared.programs import Program

PROGRAMS = {"shared.data.prepare": Program("shared.data.prepare:choose_config", "shared.data.prepare", parallel=False)}
