"""Dataset directory -> graphs: by index, by id, by condition; loads torch only in the modules that make tensors."""
