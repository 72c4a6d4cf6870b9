#!/usr/bin/env bash
# A table of all runs: state, step, best, age, speed.  bash scripts/runs.sh [FOLDER …], bash scripts/runs.sh info RUN
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
python -m shared.runs "$@"
