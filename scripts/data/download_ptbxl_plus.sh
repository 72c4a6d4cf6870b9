#!/usr/bin/env bash
# PTB-XL+ 1.0.1 (PhysioNet, CC BY 4.0): statements, features and median beats of PTB-XL; no ECG.  bash scripts/data/download_ptbxl_plus.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=physionet name=ptb-xl-plus/1.0.1 out=data/raw/ptb-xl-plus "$@"
