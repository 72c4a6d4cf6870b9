#!/usr/bin/env bash
# Speed of data, models and features on this machine.  bash scripts/benchmark.sh [data|st_mem|ecg_jepa|features …]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
[[ $# -gt 0 ]] || set -- data st_mem ecg_jepa
for name in "$@"; do echo "== $name"; python "scripts/benchmarks/$name.py"; done
