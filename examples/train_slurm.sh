#!/bin/bash
# Trains on all GPUs of one node, with one process per GPU. Lightning finds the processes through Slurm's variables. If the
# job was stopped, for example by its time limit, submit the same command again. It resumes the run. For several nodes,
# change --nodes; the folder of the run must be on a file system that all nodes share.
#     sbatch examples/train_slurm.sh mp.lg band_gap run --model ecomformer
#SBATCH --nodes=1
#SBATCH --gpus-per-node=4
#SBATCH --ntasks-per-node=4
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
set -euo pipefail
srun lazygraph train "$1" --target "$2" --output-dir "$3" --devices "$SLURM_NTASKS_PER_NODE" \
    --num-nodes "${SLURM_NNODES:-1}" --no-progress "${@:4}"
