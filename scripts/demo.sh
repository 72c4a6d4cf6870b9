#!/usr/bin/env bash
# The main job, small: prepare, pretrain both methods, tune, evaluate, compare.  bash scripts/demo.sh   or   … demo.sh ptbxl /data/ptb-xl
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/launch.sh"
name=demo; data=(configs/demo/synthetic.yaml); more=()
if [[ "${1:-}" == ptbxl ]]; then
  name=demo_ptbxl; more=(optim.epochs=40); data=(configs/data/ptbxl.yaml root="$(cd "$here" && realpath "${2:?the folder of PTB-XL}")")
fi
launch shared.data.prepare "${data[@]}" out=data/$name
for method in st_mem ecg_jepa; do
  launch ${method}_modified.pretrain configs/demo/${method}_pretrain.yaml data.store=data/$name run.out=runs/$name/$method "${more[@]}"
  launch ${method}_modified.evaluate configs/demo/${method}_inference.yaml store=data/$name encoder.weights=runs/$name/$method
done
launch st_mem_modified.triplet configs/demo/st_mem_triplet.yaml data.store=data/$name run.out=runs/$name/st_mem_triplet encoder.weights=runs/$name/st_mem
launch st_mem_modified.vqvae_train configs/demo/st_mem_vqvae.yaml data.store=data/$name run.out=runs/$name/st_mem_vqvae "${more[@]}"
python -m shared.evaluation.compare runs/$name/{st_mem,ecg_jepa,st_mem_triplet,st_mem_vqvae} out=runs/$name/compare
