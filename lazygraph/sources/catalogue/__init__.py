"""Public data sets by name: the addresses of their files, their authors, and their published splits."""
