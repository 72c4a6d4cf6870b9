#!/usr/bin/env bash
# Chapman–Shaoxing–Ningbo, ecg-arrhythmia 1.0.0 (PhysioNet, CC BY 4.0): 45 152 records of 10 s at 500 Hz.  bash scripts/data/download_chapman_ningbo.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=physionet name=ecg-arrhythmia/1.0.0 out=data/raw/ecg-arrhythmia "$@"
