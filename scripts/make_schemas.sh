#!/usr/bin/env bash
# Writes a JSON schema per config class into configs/schemas, so that editors complete and check keys.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
python -m shared.config configs/schemas st_mem_modified.config:PretrainConfig ecg_jepa_modified.config:PretrainConfig \
  st_mem_modified.finetune:FinetuneConfig ecg_jepa_modified.finetune:FinetuneConfig \
  st_mem_modified.triplet:TripletConfig ecg_jepa_modified.triplet:TripletConfig st_mem_modified.vqvae.config:VQTrainConfig \
  shared.evaluation.config:EvaluateConfig shared.data.sources.ptbxl:Config shared.data.sources.ludb:Config \
  shared.data.sources.wfdb_folder:Config shared.data.sources.synthetic:Config
