#!/usr/bin/env bash
# MIMIC-IV-ECG 1.0 (PhysioNet, ODbL 1.0): 800 035 records of 10 s at 500 Hz, about 96 GB; an account, if asked for, from ~/.netrc.  bash scripts/data/download_mimic_iv_ecg.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=physionet name=mimic-iv-ecg/1.0 out=data/raw/mimic-iv-ecg "$@"
