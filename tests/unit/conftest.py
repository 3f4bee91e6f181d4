"""Unit tests import the test folder's own modules (`scripted`) by name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
