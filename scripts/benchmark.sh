#!/usr/bin/env bash
# Speed of data, models and features on this machine, and (seeds) coverage of a study's intervals.  bash scripts/benchmark.sh [data|st_mem|ecg_jepa|features|seeds …]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
declare -A small=([data]="--records 64" [st_mem]="--size tiny --batch 2 --rounds 1"
  [ecg_jepa]="--size tiny --batch 2 --repeats 1" [features]="--records 4"
  [seeds]="--studies 5 --draws 50") # SETTING=test: whether they run
[[ $# -gt 0 ]] || set -- data st_mem ecg_jepa features
for name in "$@"; do
  options=""; [[ "${SETTING:-}" != test ]] || options="${small[$name]}"
  echo "== $name"; python "scripts/benchmarks/$name.py" $options
done
