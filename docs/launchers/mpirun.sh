#!/usr/bin/env bash
# HOSTS="node1 node2" SLOTS=8 docs/launchers/mpirun.sh CONFIG.py [--config.key=value ...] \
#   --workdir DIR
#
# MPI: SLOTS processes on each of the machines, one for each GPU. Open MPI, MPICH, Intel MPI and
# MVAPICH2 number the processes; JTL_COORDINATOR says where they meet, on the first machine.
set -euo pipefail

read -ra hosts <<<"${HOSTS:?names the machines, as in HOSTS='node1 node2'}"
slots=${SLOTS:-1}
export JTL_COORDINATOR=${hosts[0]}:${PORT:-7733}

list=$(printf ",%s:$slots" "${hosts[@]}")
processes=$((${#hosts[@]} * slots))
if mpirun --version 2>&1 | grep -q "Open MPI"; then
  exec mpirun -np "$processes" --host "${list:1}" -x JTL_COORDINATOR ./launch.sh "$@"
fi
# Hydra, of the others, hands the environment on by itself.
exec mpirun -np "$processes" -hosts "${list:1}" ./launch.sh "$@"
