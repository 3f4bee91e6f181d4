"""Unit tests import the test folder's own modules (`scripted`) by name, and none is timed."""

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

os.environ["HF_HUB_OFFLINE"] = "1"  # tests ask a hub of their own, where they ask one
sys.path.insert(0, str(Path(__file__).parent))
# Hypothesis fails an example that takes 0.2 s, which on a busy machine any may.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
