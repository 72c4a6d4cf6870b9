#!/usr/bin/env bash
# Speed of data, models, features and evaluation; errors of what is estimated.  bash scripts/benchmark.sh [data|st_mem|ecg_jepa|features|resampling|copies|quality|evaluation|seeds …]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
declare -A small=([data]="--records 64 --large 640" [st_mem]="--size tiny --batch 2 --rounds 1"
  [ecg_jepa]="--size tiny --batch 2 --repeats 1" [features]="--records 4" [resampling]="--records 4"
  [copies]="--records 40 --size 300" [quality]="--records 20"
  [evaluation]="--records 400 --dim 16 --classes 6 --resamples 20 --only knn,linear_probe" [seeds]="--studies 5 --draws 50") # SETTING=test: whether they run
[[ $# -gt 0 ]] || set -- data st_mem ecg_jepa features resampling copies quality evaluation
for name in "$@"; do
  options=""; [[ "${SETTING:-}" != test ]] || options="${small[$name]}"
  echo "== $name"; python "scripts/benchmarks/$name.py" $options
done
