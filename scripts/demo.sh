#!/usr/bin/env bash
# The main job, small: prepare, pretrain, evaluate, report.  bash scripts/demo.sh   or   bash scripts/demo.sh ptbxl /data/ptb-xl
here="$PWD"
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/launch.sh"
if [[ "${1:-}" == ptbxl ]]; then
  store=data/demo_ptbxl; runs=runs/demo_ptbxl; more=(optim.epochs=60)
  launch shared.data.prepare configs/data/ptbxl.yaml root="$(cd "$here" && realpath "${2:?the folder of PTB-XL}")" out=$store
else
  store=data/demo; runs=runs/demo; more=()
  launch shared.data.prepare configs/demo/synthetic.yaml out=$store
fi
launch st_mem_modified.pretrain configs/demo/st_mem_pretrain.yaml data.store=$store run.out=$runs/st_mem "${more[@]}"
launch st_mem_modified.evaluate configs/demo/st_mem_inference.yaml store=$store encoder.weights=$runs/st_mem
