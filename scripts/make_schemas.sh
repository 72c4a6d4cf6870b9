#!/usr/bin/env bash
# Writes a JSON schema per program into configs/schemas, where the first line of every YAML points: editors complete and check keys.
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
python -m shared.schemas configs/schemas
