"""Dataset -> arrays, with numpy alone: columns, conditions, crystals, views, and the proof that nothing is damaged."""
