#!/usr/bin/env bash
# Look at this machine, or at a downloaded database, and say what to do.  bash scripts/doctor.sh [PATH] [checksums=sample key=value …]
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
python -m shared.data.doctor "$@"
