#!/usr/bin/env bash
# Prepare a database once.  bash scripts/prepare_data.sh [configs/data/ptbxl.yaml] [root=… out=… key=value …]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/launch.sh"
launch shared.data.prepare configs/data/synthetic.yaml "$@"
