#!/usr/bin/env bash
# SPH, Shandong Provincial Hospital (figshare, CC BY 4.0): 25 770 records of 10 to 56 s at 500 Hz, AHA statements.  bash scripts/data/download_sph.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=figshare name=collections/5779802 out=data/raw/sph unpack=true "$@"
