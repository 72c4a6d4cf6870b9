#!/usr/bin/env bash
# The main job, small: prepare, pretrain both methods and the hybrid, evaluate, compare.  bash scripts/demo.sh   or   … demo.sh ptbxl /data/ptb-xl
here="$PWD"
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/launch.sh"
if [[ "${1:-}" == ptbxl ]]; then
  store=data/demo_ptbxl; runs=runs/demo_ptbxl; more=(optim.epochs=40)
  launch shared.data.prepare configs/data/ptbxl.yaml root="$(cd "$here" && realpath "${2:?the folder of PTB-XL}")" out=$store features=all
else
  store=data/demo; runs=runs/demo; more=()
  launch shared.data.prepare configs/demo/synthetic.yaml out=$store
fi
for job in st_mem ecg_jepa ecg_jepa_hybrid; do
  method=${job%_hybrid}_modified
  launch $method.pretrain configs/demo/${job}_pretrain.yaml data.store=$store run.out=$runs/$job "${more[@]}"
  launch $method.evaluate configs/demo/${job}_inference.yaml store=$store encoder.weights=$runs/$job
done
python -m shared.evaluation.compare $runs/st_mem $runs/ecg_jepa out=$runs/compare
python -m shared.evaluation.compare $runs/ecg_jepa $runs/ecg_jepa_hybrid out=$runs/compare_hybrid
