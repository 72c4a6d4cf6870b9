#!/usr/bin/env bash
# VQ-VAE training and its evaluation.  [GPUS=0,1] bash …/run_vqvae_train_and_inference.sh [CONFIG] [key=value …]
# Without arguments: from scratch on embedded synthetic ECG, prepared first where it is not there yet.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
if [[ $# -eq 0 ]]; then
  launch shared.data.prepare $demo/synthetic.yaml
  set -- $demo/st_mem_vqvae.yaml
fi
launch st_mem_modified.vqvae configs/st_mem/vqvae.yaml "$@"
