#!/usr/bin/env bash
# Pretrain ST-MEM.  [GPUS=0,1] bash scripts/st_mem/run_pretrain.sh [CONFIG] [key=value …]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../launch.sh"
launch st_mem_modified.pretrain configs/st_mem/pretrain.yaml "$@"
