#!/usr/bin/env bash
# PTB-XL 1.0.3 (PhysioNet, CC BY 4.0): 21 799 records of 10 s at 500 and 100 Hz; only=records500/*,*.csv leaves 100 Hz out.  bash scripts/data/download_ptbxl.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=physionet name=ptb-xl/1.0.3 out=data/raw/ptb-xl "$@"
