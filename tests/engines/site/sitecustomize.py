"""In every process of a test of engines: a crystal with three atoms kills whoever builds its graph, if asked for."""

import os
import signal

if os.environ.get("POISON"):
    from lazygraph.graphs.spec import GraphSpec

    build = GraphSpec.build

    def deadly(self, structure, **options):
        if len(structure) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return build(self, structure, **options)

    GraphSpec.build = deadly
