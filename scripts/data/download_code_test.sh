#!/usr/bin/env bash
# CODE-test 1.0.3 (Zenodo, CC BY 4.0): 827 exams at 400 Hz, annotated by several cardiologists.  bash scripts/data/download_code_test.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=zenodo name=records/3765780 out=data/raw/code-test unpack=true "$@"
