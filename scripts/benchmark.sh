#!/usr/bin/env bash
# Speed against the machine's own matrix product; others measure errors too.  bash scripts/benchmark.sh [speed|st_mem|ecg_jepa|data|features|resampling|copies|quality|evaluation|seeds …] [key=value …]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
declare -A small=([data]="--records 64 --large 640" [features]="--records 4" [resampling]="--records 4" [copies]="--records 40 --size 300" [quality]="--records 20"
  [evaluation]="--records 400 --dim 16 --classes 6 --resamples 20 --only knn,linear_probe" [seeds]="--studies 5 --draws 50") # SETTING=test: whether they run
names=() settings=(); for word in "$@"; do if [[ "$word" == *=* || "$word" == */* ]]; then settings+=("$word"); else names+=("$word"); fi; done
test=""; [[ "${SETTING:-}" != test ]] || test="configs/test/benchmark.yaml"
for name in "${names[@]:-speed}"; do
  case "$name" in
    speed) python -m shared.benchmark $test "${settings[@]}" ;;
    st_mem|ecg_jepa) python -m shared.benchmark $test "models=$name" "${settings[@]}" ;;
    *) echo "== $name"; python "scripts/benchmarks/$name.py" $([[ -z "$test" ]] || echo "${small[$name]}") ;;
  esac
done
