#!/usr/bin/env bash
# The main job, small: prepare, pretrain, modify, evaluate, compare.  bash scripts/demo.sh   or   … demo.sh ptbxl /data/ptb-xl
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/launch.sh"
name=${SETTING:-demo} data=("$demo/synthetic.yaml") more=()
if [[ "${1:-}" == ptbxl ]]; then
  [[ "${2:?the folder of PTB-XL}" == /* ]] || set -- ptbxl "$here/$2"
  name+=_ptbxl data=(configs/data/ptbxl.yaml features=all root="$2"); [[ -n "${SETTING:-}" ]] || more=(optim.epochs=40); fi
runs=runs/$name; launch shared.data.prepare "${data[@]}" out=data/$name
for job in st_mem ecg_jepa ecg_jepa_hybrid; do method=${job%_hybrid}_modified
  launch $method.pretrain $demo/${job}_pretrain.yaml data.store=data/$name run.out=$runs/$job "${more[@]}"
  launch $method.evaluate $demo/${job}_inference.yaml store=data/$name encoder.weights=$runs/$job; done
launch st_mem_modified.triplet $demo/st_mem_triplet.yaml data.store=data/$name run.out=$runs/st_mem_triplet encoder.weights=$runs/st_mem
launch st_mem_modified.vqvae $demo/st_mem_vqvae.yaml data.store=data/$name run.out=$runs/st_mem_vqvae "${more[@]}"
compare=shared.evaluation.report.compare; python -m $compare $runs/{st_mem,ecg_jepa,st_mem_triplet,st_mem_vqvae} out=$runs/compare
python -m $compare $runs/{ecg_jepa,ecg_jepa_hybrid} out=$runs/compare_hybrid
