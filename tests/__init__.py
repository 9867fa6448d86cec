"""A package, so that a ``tests`` which some installed package brings along does not stand for it in new processes."""
