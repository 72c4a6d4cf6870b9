#!/usr/bin/env bash
# LUDB 1.0.1 (PhysioNet, ODC-By): 200 records of 10 s at 500 Hz with P, QRS and T marks in every lead.  bash scripts/data/download_ludb.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=physionet name=ludb/1.0.1 out=data/raw/ludb "$@"
