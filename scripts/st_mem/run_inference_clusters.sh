#!/usr/bin/env bash
# kNN and clustering of an ST-MEM encoder.  bash …/run_inference_clusters.sh [CONFIG] [encoder.weights=RUN_OR_FILE key=value …]
# Without arguments: the demo's encoder on embedded synthetic ECG, pretrained first where it is not there yet.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
if [[ $# -eq 0 ]]; then
  demo_encoder st_mem
  set -- $demo/st_mem_inference.yaml
fi
launch st_mem_modified.evaluate configs/st_mem/inference_clusters.yaml "$@"
