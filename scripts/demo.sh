#!/usr/bin/env bash
# The main job, small: prepare, pretrain both methods, evaluate, compare.  bash scripts/demo.sh [all] [ptbxl /data/ptb-xl]
# `all` adds what this project is about: triplet fine-tuning, VQ-VAE, masked tokens, hybrid input, fine-tuning.
export CALLED_FROM="$PWD"
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
python scripts/demo.py "$@"
