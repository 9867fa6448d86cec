"""Writing of datasets in three steps: plan, make shards, merge. The bytes do not depend on who makes the shards."""
