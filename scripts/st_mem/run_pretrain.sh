#!/usr/bin/env bash
# Pretrain ST-MEM.  [GPUS=0,1] bash …/run_pretrain.sh [CONFIG] [key=value …]
# Without arguments: the demo's encoder on embedded synthetic ECG, prepared first where it is not there yet.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
[[ $# -gt 0 ]] || { demo_encoder st_mem; exit; }
launch st_mem_modified.pretrain configs/st_mem/pretrain.yaml "$@"
