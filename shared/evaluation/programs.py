"""The programs of evaluation that belong to no method: the name that a YAML's `program:` gives → its config class and module."""

from shared.programs import Program

PROGRAMS = {
    "shared.evaluation.study": Program(
        "shared.evaluation.study.config:StudyConfig", "shared.evaluation.study", parallel=False
    )
}
