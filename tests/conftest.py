"""What all tests share: hypothesis profiles, helper modules' folders, and the catalog's engines."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
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


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """Yield a ``postgres_server.Server``, which is started by the first test that wants one."""
    from postgres_server import running

    with running() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: Any) -> Iterator[str]:
    """Yield the address of a database that no other test has."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def catalog_engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let stores that are made in a test, here or in its children, have their catalog there.

    A test that is about one engine alone says so with
    ``@pytest.mark.parametrize("catalog_engine", ["sqlite"], indirect=True)``.
    """
    if request.param == "sqlite":
        monkeypatch.delenv("HARTONOMOUS_CATALOG_URL", raising=False)
    else:
        url = request.getfixturevalue("postgres_url")
        monkeypatch.setenv("HARTONOMOUS_CATALOG_URL", url)
    return str(request.param)
