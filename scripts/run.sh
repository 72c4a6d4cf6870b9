#!/usr/bin/env bash
# Runs any YAML: the program that its line `program:` names.  [GPUS=0,1] bash scripts/run.sh CONFIG [key=value …]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/launch.sh"
if [[ $# -eq 0 || "$1" == -* ]]; then python -m shared.programs "$@"; exit; fi # usage, and the programs there are
launch "" "" "$@"
