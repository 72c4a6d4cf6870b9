#!/usr/bin/env bash
# Runs the tests.  bash scripts/test.sh [pytest options]   e.g. -m "not slow", tests/shared, -k masks
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
export OMP_NUM_THREADS=1
[[ $# -gt 0 ]] || set -- -n 2 --dist worksteal --cov --cov-report=term:skip-covered --cov-fail-under=90
python -m pytest "$@"
