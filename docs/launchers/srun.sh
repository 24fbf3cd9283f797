#!/usr/bin/env bash
# sbatch docs/launchers/srun.sh CONFIG.py [--config.key=value ...] --workdir DIR
#
# Slurm: one process for each GPU. Change the lines below to your cluster; the folder of jtl, the
# data and DIR must be the same on all machines.
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --signal=TERM@120
# TERM comes 120 seconds before the time is over: the run saves and ends with 143. What was stopped
# so is queued again, and goes on.
#SBATCH --requeue
set -uo pipefail

srun "${SLURM_SUBMIT_DIR:-.}/launch.sh" "$@"
code=$?
if [[ $code == 143 ]]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
