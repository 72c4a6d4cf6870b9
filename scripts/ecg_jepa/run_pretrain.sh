#!/usr/bin/env bash
# Pretrain ECG-JEPA.  [GPUS=0,1] bash …/run_pretrain.sh [CONFIG] [key=value …]
# Without arguments: the demo's encoder on embedded synthetic ECG, prepared first where it is not there yet.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
[[ $# -gt 0 ]] || { demo_encoder ecg_jepa; exit; }
launch ecg_jepa_modified.pretrain configs/ecg_jepa/pretrain.yaml "$@"
