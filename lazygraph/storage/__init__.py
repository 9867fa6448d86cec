"""The files of a dataset: named after their content, and whole or not there."""
