"""Every target of fuzz/ takes what it begins with, damaged forms of that, and what was once found.

`make fuzz` lets atheris look for more.
"""

import pytest
from fuzz import seeds
from fuzz.targets import FOUND, TARGETS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

KEPT = [(one, path) for one in TARGETS.values() for path in seeds.found_before(one.name)]


@pytest.mark.parametrize("name", TARGETS)
def test_each_target_begins_with_something(name):
    found = seeds.seeds_of(name)
    assert found
    assert seeds.seeds_of.__wrapped__(name) == found, "the same every time"


@pytest.mark.parametrize("name", TARGETS)
def test_what_a_target_begins_with_passes(name):
    for content in seeds.seeds_of(name):
        TARGETS[name].run(content)


@pytest.mark.parametrize(("target", "path"), KEPT, ids=[f"{one.name}-{p.name}" for one, p in KEPT])
def test_what_was_once_found_passes(target, path):
    target.run(path.read_bytes())


def test_what_was_once_found_is_of_a_target():
    assert {path.name for path in FOUND.iterdir()} <= set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
@settings(
    max_examples=15, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(data=st.data())
def test_damage_is_refused_or_read(name, data):
    content = bytearray(data.draw(st.sampled_from(seeds.seeds_of(name))))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, max(len(content) - 1, 0)))
        content[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    TARGETS[name].run(bytes(content[: TARGETS[name].max_bytes]))
