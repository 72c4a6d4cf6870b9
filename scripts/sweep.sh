#!/usr/bin/env bash
# A grid of settings, ranked on validation.  [GPUS=0,1] bash scripts/sweep.sh CONFIG key=a,b,c key2=… [choose=knn/auroc_macro out=runs/sweep slurm="--gres gpu:1"]
here="$PWD"
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
[[ ! -f "$here/${1:-}" ]] || set -- "$here/$1" "${@:2}"
python -m shared.sweep "$@"
