#!/usr/bin/env bash
# A dataset made by many machines over a shared folder. Any scheduler will do; this one is Slurm.
#   bash examples/slurm_array.sh structures.json mp.lg
set -euo pipefail
source=$1 output=$2

# 1. Read the input once and cut it into shards. Everything that decides their bytes is in mp.lg.partial.
lazygraph-write plan "$source" -o "$output" --graph comformer
shards=$(python -c "import json, sys; print(len(json.load(open(sys.argv[1]))['tasks']))" "$output.partial/plan.json")

# 2. Make the shards, each by whoever is free; one that was made already is not made again.
if command -v sbatch >/dev/null; then
  sbatch --wait --array="0-$((shards - 1))" --cpus-per-task=1 \
    --wrap "lazygraph-write shard '$output' --task \$SLURM_ARRAY_TASK_ID"
else
  seq 0 $((shards - 1)) | xargs -P "$(nproc)" -I N lazygraph-write shard "$output" --task N
fi

# 3. Put them together. A merge before all are made says which are missing.
lazygraph-write merge "$output"
