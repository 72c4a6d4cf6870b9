#!/usr/bin/env bash
# kNN and clustering of an ECG-JEPA encoder.  bash …/run_inference_clusters.sh [CONFIG] [encoder.weights=RUN_OR_FILE key=value …]
# Without arguments: the demo's encoder on embedded synthetic ECG, pretrained first where it is not there yet.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
if [[ $# -eq 0 ]]; then
  demo_encoder ecg_jepa
  set -- $demo/ecg_jepa_inference.yaml
fi
launch ecg_jepa_modified.evaluate configs/ecg_jepa/inference_clusters.yaml "$@"
