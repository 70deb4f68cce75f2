"""What may be a key."""

import pytest

from hartonomous.errors import UsageError
from hartonomous.objects.keys import check_key, is_key
from hartonomous.testing.object_store import BAD_KEYS


@pytest.mark.parametrize(
    "key", ["a", "packs/00/0a1b.pack", "A-Z_.9", "a/tmp", "tmpx", "-", "a..b", "_", "a" * 255]
)
def test_keys(key):
    assert check_key(key) == key


@pytest.mark.parametrize("key", BAD_KEYS)
def test_no_keys(key):
    assert not is_key(key)
    with pytest.raises(UsageError, match="object key") as caught:
        check_key(key)
    assert caught.value.hint


def test_a_long_key_makes_no_long_message():
    with pytest.raises(UsageError) as caught:
        check_key("a" * 10_000_000)
    assert len(caught.value.message) < 2000
