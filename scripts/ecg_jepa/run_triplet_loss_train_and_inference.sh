#!/usr/bin/env bash
# Triplet fine-tuning and its evaluation.  [GPUS=0] bash …/run_triplet_loss_train_and_inference.sh [CONFIG] [encoder.weights=RUN key=value …]
# Without arguments: on the demo's encoder and embedded synthetic ECG, both made first where they are not there yet.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
if [[ $# -eq 0 ]]; then
  demo_encoder ecg_jepa
  set -- $demo/ecg_jepa_triplet.yaml
fi
launch ecg_jepa_modified.triplet configs/ecg_jepa/triplet.yaml "$@"
