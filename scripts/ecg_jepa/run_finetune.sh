#!/usr/bin/env bash
# Fine-tune ECG-JEPA and test it.  [GPUS=0,1] bash …/run_finetune.sh [CONFIG] [mode=finetune|linear_probe|scratch encoder.weights=RUN key=value …]
# Without arguments: the demo's encoder on embedded synthetic ECG, both made first where they are not there yet.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
if [[ $# -eq 0 ]]; then
  demo_encoder ecg_jepa
  set -- $demo/ecg_jepa_finetune.yaml
fi
launch ecg_jepa_modified.finetune configs/ecg_jepa/finetune.yaml "$@"
