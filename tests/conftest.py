"""What all tests share: hypothesis profiles, helper modules' folders, the catalog's engines.

A test may be skipped for want of what ``make test`` cannot install, which ``MAY_BE_MISSING`` lists;
skipped for anything else it fails.
"""

import os
import sys
from collections.abc import Generator, Iterator
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

MAY_BE_MISSING = (
    "there is no C compiler",
    "the C compiler has no sanitizers",
    "there is no C kernel here",
    "there is no aarch64-linux-gnu-gcc or no qemu-aarch64",
    "/proc/locks does not tell of locks on this file system",
    # Gigabytes with the libraries for graphics cards that it brings; see docs/checkpoints.md.
    "could not import 'torch",
    "could not import 'transformers'",
    "could not import 'accelerate'",
)
"""Beginnings of the reasons for which tests may be skipped."""

# Test modules are imported by their path (import mode "importlib"), so that two folders may have
# a file of the same name. Modules that tests of one folder share are found here.
for folder in sorted(Path(__file__).parent.iterdir()):
    if folder.is_dir() and str(folder) not in sys.path:
        sys.path.append(str(folder))


def is_allowed(reason: str) -> bool:
    """Say whether a test may be skipped for this reason, as pytest tells it."""
    return reason.removeprefix("Skipped: ").startswith(MAY_BE_MISSING)


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Make a skipped test, or module, a failed one unless its reason is listed."""
    if report.outcome != "skipped" or hasattr(report, "wasxfail"):
        return
    place = report.longrepr
    assert isinstance(place, tuple), "pytest tells file, line and reason of what is skipped"
    if not is_allowed(place[2]):
        report.outcome = "failed"
        report.longrepr = f"{place[0]}:{place[1]}: {place[2]} (no reason in MAY_BE_MISSING)"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Look at what became of a test."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Look at what became of a module: one that cannot be imported is skipped as a whole."""
    report = yield
    _fail_if_skipped(report)
    return report


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
