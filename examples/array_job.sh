#!/usr/bin/env bash
# Writes a dataset in parts, on any machines that share a folder. For Slurm, 'lazygraph slurm' prints the job scripts.
#   bash examples/array_job.sh structures.json mp.lg 8
set -euo pipefail
source=$1 output=$2 parts=${3:-8}

# 1. Read the input once and plan the shards. The plan in mp.lg.partial determines every byte of the shards.
lazygraph-write plan "$source" -o "$output" --graph comformer

# 2. Write the parts in any order, on any machine: let each task of an array job run one of these commands.
#    A finished shard is not written again.
seq "$parts" | xargs -P "$(nproc)" -I K lazygraph-write shard "$output" --part "K/$parts"

# 3. Merge the shards. If shards are missing, merge names them.
lazygraph-write merge "$output"
