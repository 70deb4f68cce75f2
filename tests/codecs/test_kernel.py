"""Which implementation runs, that it is the one of these sources, and that others run beside it."""

import shutil
import sys
import threading
import time

import pytest
from sample_tensors import weights

from hartonomous.codecs import kernel
from hartonomous.codecs.kernel import NAMES, NUMPY, VARIABLE
from hartonomous.codecs.layouts import LAYOUTS
from hartonomous.errors import UsageError

NATIVE = [name for name in kernel.available() if name != NUMPY]


def test_the_kernel_is_built_where_it_can_be_and_of_these_sources(native_build):
    if shutil.which(native_build.compiler()[0]) is None:
        assert kernel.available() == (NUMPY,)
        assert "_kernel" in kernel.fault()
        return
    assert kernel.fault() == ""
    assert "scalar" in NATIVE, "build it: python native/build.py"
    built = kernel.of_name("scalar").native
    assert built.identity == native_build.identity(), "build it anew: python native/build.py"


def test_the_fastest_path_runs_unless_another_is_named():
    assert kernel.active({}).name == kernel.available()[0]
    assert kernel.active({VARIABLE: ""}).name == kernel.available()[0]
    for name in kernel.available():
        assert kernel.active({VARIABLE: name}).name == name


def test_the_variable_is_read_from_the_environment(monkeypatch):
    for name in kernel.available():
        monkeypatch.setenv(VARIABLE, name)
        assert kernel.active().name == name


def test_a_name_that_is_none_is_refused():
    with pytest.raises(UsageError, match="no kernel named 'fastest'") as caught:
        kernel.active({VARIABLE: "fastest"})
    assert all(name in caught.value.hint for name in NAMES)


def test_a_path_of_another_machine_is_refused():
    missing = set(NAMES) - set(kernel.available())
    assert missing  # no machine has both AVX2 and NEON
    for name in missing:
        with pytest.raises(UsageError, match=f"the kernel {name} cannot run here") as caught:
            kernel.active({VARIABLE: name})
        assert "numpy" in caught.value.hint


def test_without_the_module_numpy_runs(monkeypatch):
    monkeypatch.setattr(kernel, "_native", lambda: None)
    assert kernel.available() == (NUMPY,)
    assert kernel.active({}).name == NUMPY
    assert kernel.active({}).native is None
    with pytest.raises(UsageError, match="the kernel scalar cannot run here"):
        kernel.of_name("scalar")


@pytest.mark.parametrize("name", NATIVE)
def test_other_threads_run_while_frames_are_coded(name):
    """With a switch interval of an hour, another thread runs only if the GIL is given up."""
    chosen, layout = kernel.of_name(name), LAYOUTS["BF16"]
    content = memoryview(weights("BF16", 1 << 20))
    (payload,) = chosen.encode_many([content], [0], layout)
    payloads = [memoryview(payload)] * 8
    outs = [memoryview(bytearray(len(content))) for _ in payloads]
    turns, stop = [0], threading.Event()

    def take_turns():
        while not stop.is_set():
            turns[0] += 1
            time.sleep(0)

    def runs_beside(call):
        for _ in range(500):
            before = turns[0]
            call()
            if turns[0] != before:
                return True
        return False

    other = threading.Thread(target=take_turns)
    other.start()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(3600)
    try:
        assert runs_beside(lambda: chosen.decode_many(payloads, outs))
        assert runs_beside(lambda: chosen.encode_many([content] * 8, [0] * 8, layout))
        assert not runs_beside(lambda: sum(payload[:1000]))
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        other.join()
