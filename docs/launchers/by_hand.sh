#!/usr/bin/env bash
# HOSTS="node1 node2" docs/launchers/by_hand.sh CONFIG.py [--config.key=value ...] --workdir DIR
#
# Without any launcher: one process on each machine, over ssh, with all of its devices. On each of
# them jtl is in the folder that this is called from. Ends with the first code that is not 0.
set -euo pipefail

read -ra hosts <<<"${HOSTS:?names the machines, as in HOSTS='node1 node2'}"
coordinator=${hosts[0]}:${PORT:-7733}

started=()
for rank in "${!hosts[@]}"; do
  told="JTL_COORDINATOR=$coordinator JTL_PROCESSES=${#hosts[@]} JTL_PROCESS=$rank"
  # With a terminal, what ends ssh ends the process too.
  command="cd $(printf '%q' "$PWD") && $told ./launch.sh $(printf '%q ' "$@")"
  ssh -tt "${hosts[rank]}" "$command" </dev/null &
  started+=($!)
done
trap 'kill "${started[@]}" 2>/dev/null' INT TERM

code=0
for process in "${started[@]}"; do
  wait "$process" || code=$((code ? code : $?))
done
exit "$code"
