#!/usr/bin/env bash
# Writes a dataset on many machines with a shared folder. This script uses Slurm; any other scheduler works too.
#   bash examples/slurm_array.sh structures.json mp.lg
set -euo pipefail
source=$1 output=$2

# 1. Read the input once and plan the shards. The plan in mp.lg.partial determines every byte of the shards.
lazygraph-write plan "$source" -o "$output" --graph comformer
shards=$(python -c "import json, sys; print(len(json.load(open(sys.argv[1]))['tasks']))" "$output.partial/plan.json")

# 2. Write the shards in any order, on any machine. A finished shard is not written again.
if command -v sbatch >/dev/null; then
  sbatch --wait --array="0-$((shards - 1))" --cpus-per-task=1 \
    --wrap "lazygraph-write shard '$output' --task \$SLURM_ARRAY_TASK_ID"
else
  seq 0 $((shards - 1)) | xargs -P "$(nproc)" -I N lazygraph-write shard "$output" --task N
fi

# 3. Merge the shards. If shards are missing, merge names them.
lazygraph-write merge "$output"
