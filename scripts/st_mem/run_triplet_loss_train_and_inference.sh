#!/usr/bin/env bash
# Triplet fine-tuning and its evaluation.  [GPUS=0] bash …/run_triplet_loss_train_and_inference.sh [CONFIG] [encoder.weights=RUN key=value …]
# Without arguments: on the demo's encoder and embedded synthetic ECG, both made first where they are not there yet.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
if [[ $# -eq 0 ]]; then
  demo_encoder st_mem
  set -- $demo/st_mem_triplet.yaml
fi
launch st_mem_modified.triplet configs/st_mem/triplet.yaml "$@"
