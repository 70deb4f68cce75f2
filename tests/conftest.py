"""What all tests share: hypothesis profiles, and the folders that helper modules are found in."""

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code. `ci` looks at more examples, the same ones each time.
settings.register_profile(
    "default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=200, derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Test modules are imported by their path (import mode "importlib"), so that two folders may have
# a file of the same name. Modules that tests of one folder share are found here.
for folder in sorted(Path(__file__).parent.iterdir()):
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))
