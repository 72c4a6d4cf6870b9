#!/usr/bin/env bash
# Pretrain ECG-JEPA.  [GPUS=0,1] bash scripts/ecg_jepa/run_pretrain.sh [CONFIG] [key=value …]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
launch ecg_jepa_modified.pretrain configs/ecg_jepa/pretrain.yaml "$@"
