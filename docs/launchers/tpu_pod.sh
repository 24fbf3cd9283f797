#!/usr/bin/env bash
# TPU=NAME ZONE=europe-west4-b docs/launchers/tpu_pod.sh CONFIG.py [--config.key=value ...] \
#   --workdir DIR
#
# A slice of TPUs with several machines: the same command on all of them. They find each other, so
# there is nothing to set. JTL is the folder of jtl on each machine; DIR must be one that all share.
set -euo pipefail

command="cd ${JTL:-jtl} && ./launch.sh $(printf '%q ' "$@")"
exec gcloud compute tpus tpu-vm ssh "${TPU:?names the slice}" --zone="${ZONE:?names its zone}" \
  --worker=all --command="$command"
