from __future__ import annotations

import sys
from pathlib import Path

# For same.py: in its import mode importlib, pytest puts no folder of tests on the path.
sys.path.append(str(Path(__file__).parent))

collect_ignore = ["faulty.py"]  # a program, which tests start
