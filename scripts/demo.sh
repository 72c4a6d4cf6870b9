#!/usr/bin/env bash
# The main job, small: prepare, pretrain, modify, evaluate, compare.  bash scripts/demo.sh   or   … demo.sh ptbxl /data/ptb-xl
here="$PWD"
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/launch.sh"
name=${SETTING:-demo}; data=("$demo/synthetic.yaml"); more=()
if [[ "${1:-}" == ptbxl ]]; then
  name=${name}_ptbxl; [[ -n "${SETTING:-}" ]] || more=(optim.epochs=40)
  data=(configs/data/ptbxl.yaml features=all root="$(cd "$here" && realpath "${2:?the folder of PTB-XL}")")
fi
runs=runs/$name
launch shared.data.prepare "${data[@]}" out=data/$name
for job in st_mem ecg_jepa ecg_jepa_hybrid; do
  launch ${job%_hybrid}_modified.pretrain $demo/${job}_pretrain.yaml data.store=data/$name run.out=$runs/$job "${more[@]}"
  launch ${job%_hybrid}_modified.evaluate $demo/${job}_inference.yaml store=data/$name encoder.weights=$runs/$job
done
launch st_mem_modified.triplet $demo/st_mem_triplet.yaml data.store=data/$name run.out=$runs/st_mem_triplet encoder.weights=$runs/st_mem
launch st_mem_modified.vqvae.train $demo/st_mem_vqvae.yaml data.store=data/$name run.out=$runs/st_mem_vqvae "${more[@]}"
python -m shared.evaluation.report.compare $runs/{st_mem,ecg_jepa,st_mem_triplet,st_mem_vqvae} out=$runs/compare
python -m shared.evaluation.report.compare $runs/{ecg_jepa,ecg_jepa_hybrid} out=$runs/compare_hybrid
