#!/usr/bin/env bash
# PhysioNet/CinC Challenge 2017 1.0.0 (ODC-By): 8 528 single-lead records of 9 to 61 s at 300 Hz.  bash scripts/data/download_physionet2017.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=physionet name=challenge-2017/1.0.0 out=data/raw/challenge2017 "$@"
