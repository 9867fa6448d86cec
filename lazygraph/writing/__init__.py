"""Sources -> dataset directory: plan, make shards, merge; the same bytes whoever does it."""
