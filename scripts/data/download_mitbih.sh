#!/usr/bin/env bash
# MIT-BIH Arrhythmia Database 1.0.0 (PhysioNet, ODC-By): 48 records of 30 min, two leads at 360 Hz, beats annotated.  bash scripts/data/download_mitbih.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=physionet name=mitdb/1.0.0 out=data/raw/mitdb "$@"
