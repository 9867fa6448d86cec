"""Dataset -> tensors: graphs of PyG by index, id or condition, and the loader; the room that loads torch and PyG."""
