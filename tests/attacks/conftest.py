from __future__ import annotations

import sys
from pathlib import Path

# For the modules beside this one: in its import mode importlib, pytest puts no folder of tests on the path.
sys.path.append(str(Path(__file__).parent))
