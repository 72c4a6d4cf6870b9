#!/usr/bin/env bash
# A study: rows × seeds trained, evaluated and concluded.  [GPUS=0,1] bash scripts/study.sh CONFIG [size=demo|sample|full] [seeds=0,1,2] [store=… root=… out=…]
here="$PWD"
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
[[ ! -f "$here/${1:-}" ]] || set -- "$here/$1" "${@:2}"
python -m shared.evaluation.study "$@"
