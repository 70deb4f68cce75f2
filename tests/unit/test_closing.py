"""Closing: leaving the block closes, also when it is left by an error, which goes on."""

import pytest

from hartonomous.core.closing import Closing


class Door(Closing):
    def __init__(self):
        self.closed = 0

    def close(self):
        self.closed += 1


def test_leaving_the_block_closes_once():
    with Door() as door:
        assert door.closed == 0
    assert door.closed == 1


def test_an_error_closes_and_goes_on():
    door = Door()
    with pytest.raises(ValueError, match="inside"), door:
        raise ValueError("inside")
    assert door.closed == 1


def test_a_second_error_is_a_note_of_the_first():
    class Stuck(Door):
        _END_FAILED = "it stuck too"

        def close(self):
            raise OSError("no way")

    with pytest.raises(ValueError, match="inside") as caught, Stuck():
        raise ValueError("inside")
    assert caught.value.__notes__ == ["it stuck too: no way"]


def test_what_cannot_be_closed_is_not_made():
    class Ajar(Closing):
        pass

    with pytest.raises(TypeError, match="close"):
        Ajar()
