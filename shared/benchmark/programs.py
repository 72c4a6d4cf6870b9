"""The benchmark as a program that a YAML's `program:` can name."""

from shared.programs import Program

PROGRAMS = {
    "shared.benchmark.speed": Program("shared.benchmark.config:BenchmarkConfig", "shared.benchmark", parallel=False),
}
