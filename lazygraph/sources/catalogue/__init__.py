"""Public data sets by name: where their files lie, who made them, and their published splits."""
