#!/usr/bin/env bash
# Chapman–Shaoxing (figshare, CC0): 10 646 records of 10 s at 500 Hz as CSV, most of them in chapman_ningbo too.  bash scripts/data/download_chapman_figshare.sh [out=…] [only=PATTERN,…] [base=MIRROR]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/../setup.sh"
python -m shared.data.download publisher=figshare name=collections/4560497 out=data/raw/chapman_figshare unpack=true "$@"
