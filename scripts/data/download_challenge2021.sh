#!/usr/bin/env bash
# PhysioNet/CinC Challenge 2021 1.0.3 (CC BY 4.0): 88 253 records of eight cohorts; only=training/georgia/* takes one.  bash scripts/data/download_challenge2021.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=physionet name=challenge-2021/1.0.3 out=data/raw/challenge2021 "$@"
