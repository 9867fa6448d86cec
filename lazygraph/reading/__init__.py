"""Reading of datasets with numpy alone: columns, conditions, crystals, views, and ``verify``."""
