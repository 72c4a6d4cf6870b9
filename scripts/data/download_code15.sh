#!/usr/bin/env bash
# CODE-15 % 1.0.0 (Zenodo, CC BY 4.0): 345 779 exams at 400 Hz, 66 GB unpacked; only=exams.csv,exams_part0.zip takes one part of 18.  bash scripts/data/download_code15.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=zenodo name=records/4916206 out=data/raw/code15 unpack=true sums=exams.csv:0107516d3f63864498fb77d15799cc95 "$@"
