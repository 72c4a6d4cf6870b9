#!/usr/bin/env bash
# The main job, small: prepare, pretrain both methods, evaluate, compare.  bash scripts/demo.sh   or   … demo.sh ptbxl /data/ptb-xl
here="$PWD"
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/launch.sh"
if [[ "${1:-}" == ptbxl ]]; then
  store=data/demo_ptbxl; runs=runs/demo_ptbxl; more=(optim.epochs=40)
  launch shared.data.prepare configs/data/ptbxl.yaml root="$(cd "$here" && realpath "${2:?the folder of PTB-XL}")" out=$store
else
  store=data/demo; runs=runs/demo; more=()
  launch shared.data.prepare configs/demo/synthetic.yaml out=$store
fi
for method in st_mem ecg_jepa; do
  launch ${method}_modified.pretrain configs/demo/${method}_pretrain.yaml data.store=$store run.out=$runs/$method "${more[@]}"
  launch ${method}_modified.evaluate configs/demo/${method}_inference.yaml store=$store encoder.weights=$runs/$method
done
python -m shared.evaluation.compare $runs/st_mem $runs/ecg_jepa out=$runs/compare
