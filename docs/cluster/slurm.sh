#!/bin/bash
# Trains on several workers under Slurm, one per node. From the checkout:
#   sbatch --nodes 4 --gpus-per-node 8 docs/cluster/slurm.sh \
#     trainers/imagenet.py --precision mixed_bfloat16 --run_dir runs/imagenet
# The arguments after this file's name are the trainer and its flags. The checkout and the run
# folder must be on a file system that all nodes share.
#SBATCH --job-name=elu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --exclusive
#SBATCH --output=%x-%j.log

set -euo pipefail

export PORT=2222
HOSTS=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export HOSTS

# Each task has its own SLURM_PROCID: 0, 1, ..., in the order of the hosts.
srun --label --kill-on-bad-exit=1 bash -c '
  addresses=$(printf "\"%s:$PORT\"," $HOSTS)
  task="{\"type\": \"worker\", \"index\": $SLURM_PROCID}"
  export TF_CONFIG="{\"cluster\": {\"worker\": [${addresses%,}]}, \"task\": $task}"
  exec .venv/bin/python "$@" --strategy multiworker
' worker "$@"
