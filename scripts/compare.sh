#!/usr/bin/env bash
# One table and page of several evaluated runs; differences to the first.  bash scripts/compare.sh RUN RUN … [out=runs/compare]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
python -m shared.evaluation.report.compare "$@"
