#!/usr/bin/env bash
# Makes Python ready: installs this project into the active environment (conda, venv), else into .venv. Safe to repeat.
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."
[[ -n "${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ]] || { [[ -x .venv/bin/pip ]] || python3 -m venv .venv; source .venv/bin/activate; }
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" # this checkout's code, whichever checkout the environment was installed from
stamp="$(python -c 'import sys; print(sys.prefix)')/.ssl-ecg-biosignals"
wanted="$(sha256sum < pyproject.toml)"
if [[ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]]; then
  echo "installing into $(dirname "$stamp") (several GB the first time, a few minutes) …"
  python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
  python -c "import timm, torch, wfdb; print('torch', torch.__version__, '· timm', timm.__version__, '· CUDA', torch.cuda.is_available())"
  echo "$wanted" > "$stamp"
fi
