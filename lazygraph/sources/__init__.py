"""Files, databases and Python objects -> crystals with ids and labels, one module per input format."""
