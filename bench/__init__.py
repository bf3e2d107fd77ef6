"""What `make bench` measures: one module a figure, each a program that prints its results as JSON lines.

The figures start what `make run` and the tests start, so they use the same scripts/.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "scripts"))
