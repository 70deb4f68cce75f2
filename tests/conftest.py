"""What all tests share: hypothesis profiles, and the folders that helper modules are found in."""

import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

# Deadlines measure the machine, not the code. `default` looks at other examples each time, `ci` at
# the same ones, so that what it says of a change is said of the change; `long` runs for hours.
_SLOW = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
settings.register_profile(
    "default", deadline=None, max_examples=60, suppress_health_check=_SLOW, print_blob=True
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.register_profile("long", settings.get_profile("default"), max_examples=3000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

# Test modules are imported by their path (import mode "importlib"), so that two folders may have
# a file of the same name. Modules that tests of one folder share are found here.
for folder in sorted(Path(__file__).parent.iterdir()):
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))
