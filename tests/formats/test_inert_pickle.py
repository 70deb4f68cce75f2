"""The inert unpickler: the values of Python's own, where those are plain; nothing else done."""

import collections
import datetime
import pickle
import pickletools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hartonomous.errors import LimitError, StructureError
from hartonomous.formats import inert_pickle
from hartonomous.formats.inert_pickle import Pickle, read_pickle
from hartonomous.formats.pickle_values import Call, Global, Group, Mapping, Persistent
from hartonomous.formats.pickle_verdict import ALLOWED, DANGEROUS, UNKNOWN, listed, verdict
from hartonomous.formats.reader import BytesReader


def read(content: bytes) -> Pickle:
    return read_pickle(BytesReader(content))


def thawed(value: Any) -> Any:
    """What plain inert values stand for."""
    if isinstance(value, Mapping):
        items = [thawed(item) for item in value.items]
        return dict(zip(items[::2], items[1::2], strict=True))
    if isinstance(value, Group):
        return {thawed(item) for item in value.items}
    if isinstance(value, list | tuple):
        return type(value)(thawed(item) for item in value)
    if isinstance(value, Call):
        if value.path == "_codecs.encode":
            return value.arguments[0].encode(value.arguments[1])
        given = thawed(value.arguments)
        return {"builtins.set": set, "builtins.frozenset": set, "builtins.bytes": bytes,
                "builtins.bytearray": bytes}[value.path](*given)  # fmt: skip
    return value


SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
    | st.text(max_size=8) | st.binary(max_size=8)
)  # fmt: skip
VALUES = st.recursive(
    SCALARS | st.sets(st.integers(), max_size=4),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
        | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_pythons(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    found = read(content + b"rest")
    assert thawed(found.value) == value
    assert found.end == len(content)
    assert found.protocol == (protocol if protocol >= 2 else 0)


@given(VALUES, st.integers(0, pickle.HIGHEST_PROTOCOL), st.data())
def test_changed_pickles_are_read_or_refused(
    value: Any, protocol: int, data: st.DataObject
) -> None:
    content = bytearray(pickle.dumps(value, protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read(bytes(content))
    except StructureError as error:
        assert len(error.message) < 300
    else:
        assert found.end <= len(content)


def test_every_opcode_of_python_is_known() -> None:
    known = {ord(one.code) for one in pickletools.opcodes} - {ord(".")}
    assert known == set(inert_pickle._ACTIONS)


def test_calls_are_kept_and_not_made() -> None:
    found = read(pickle.dumps(datetime.date(2024, 1, 2), 2)).value
    assert isinstance(found, Call)
    assert found.path == "datetime.date"
    found = read(pickle.dumps(collections.OrderedDict(a=1), 2)).value
    assert (found.path, found.items) == ("collections.OrderedDict", ["a", 1])


class Thing:
    """Something with state."""

    def __init__(self) -> None:
        self.held = 1


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_objects_have_their_state(protocol: int) -> None:
    found = read(pickle.dumps(Thing(), protocol))
    assert isinstance(found.value, Call)
    assert found.value.state.items == ["held", 1]
    assert (Thing.__module__, "Thing") in {(one.module, one.name) for one in found.globals}


def test_old_opcodes() -> None:
    assert read(b"I01\nI00\nI7\nF1.5\nL99L\n(tS'a\\x41'\nVb\\u00e9\n.").value == "bé"
    assert read(b"(lp0\nI1\naI2\na.").value == [1, 2]
    found = read(b"(dp0\nS'k'\nNsg0\n.").value
    assert found.items == ["k", None]
    found = read(b"(S'x'\nios\nsystem\n.").value  # INST
    assert (found.path, found.arguments) == ("os.system", ("x",))
    found = read(b"(cos\nsystem\nS'x'\no.").value  # OBJ
    assert (found.path, found.arguments) == ("os.system", ("x",))
    found = read(b"Pkey\n.").value
    assert isinstance(found, Persistent)
    assert found.id == "key"
    assert read(b"NN0.").value is None
    assert read(b"K\x01(K\x02K\x030" + b"1.").value == 1
    assert read(b"K\x012\x86.").value == (1, 1)


def test_extensions_and_built_names_are_listed() -> None:
    for code in (b"\x82\x07", b"\x83\x07\x00", b"\x84\x07\x00\x00\x00"):
        found = read(code + b")R.")
        assert found.value.path == "(copyreg extension).7"
        assert [verdict(one) for one in found.globals] == [DANGEROUS]
    found = read(b"\x80\x04cbuiltins\nstr\n\x8c\x02os\x85R\x8c\x06system\x93.")
    assert inert_pickle.BUILT_NAME in found.globals
    assert verdict(inert_pickle.BUILT_NAME) == DANGEROUS


def test_a_name_that_is_changed_is_listed() -> None:
    found = read(b"ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aNsb.")
    assert {verdict(one) for one in found.globals} == {ALLOWED, DANGEROUS}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "ends too early"),
        (b"N", "ends too early"),
        (b".", "empty stack"),
        (b"\xff.", "opcode 0xff"),
        (b"\x80\x06N.", "protocol 6"),
        (b"X\xff\xff\xff\xffa.", "claims 4294967295 bytes"),
        (b"\x8d" + b"\xff" * 8 + b"a.", "claims"),
        (b"\x96" + b"\xff" * 8 + b"a.", "claims"),
        (b"\x8b\xff\xff\xff\x7fa.", "claims"),
        (b"\x8b\xff\xff\xff\xffa.", "length is negative"),
        (b"\x95" + b"\xff" * 8 + b"N.", "frame"),
        (b"h\x07.", "entry 7 of the memo"),
        (b"g-1\n.", "memo is negative"),
        (b"Nq\x00a.", "empty stack"),
        (b"NNa.", "something else than a list"),
        (b"}(Nu.", "a key has no value"),
        (b"NNNs.", "something else than a dict"),
        (b"NNb.", "given a state"),
        (b"t.", "a mark is missing"),
        (b"(o.", "no class"),
        (b"\x97.", "buffer from outside"),
        (b"N\x98.", "buffer from outside"),
        (b"X\x02\x00\x00\x00\xff\xff.", "not UTF-8"),
        (b"Ix\n.", "an integer"),
        (b"Fx\n.", "a number"),
        (b"Sx\n.", "quotes"),
        (b"S'\\x4'\n.", "escape"),
        (b"V\\u12\n.", "escape"),
    ],
)
def test_broken_pickles_are_refused(content: bytes, text: str) -> None:
    with pytest.raises(StructureError, match=text):
        read(content)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"(" * 5000 + b".", "nested deeper"),
        (b"]" * 700_000 + b".", "makes more than 600000 objects"),
        (b"N" * 1_100_000 + b".", "stack is deeper"),
        (b"N0" * 1_600_000 + b".", "more than 3000000 opcodes"),
        (b"N" + b"".join(b"r" + struct.pack("<I", at) for at in range(600_001)), "memo has more"),
        (b"I" + b"1" * 65 + b"\n.", "more than 64 digits"),
        (b"\x8b" + struct.pack("<i", 2000) + b"1" * 2000 + b".", "an integer of 2000 bytes"),
        (b"V" + b"x" * 3000 + b"\n.", "a line of the pickle"),
        (b"B" + struct.pack("<I", 17 << 20) + bytes(17 << 20) + b".", "a text of 17825792 bytes"),
        (b"".join(b"cm\nn%d\n0" % at for at in range(5000)), "different names"),
        ((b"B" + struct.pack("<I", 1 << 20) + bytes(1 << 20) + b"0") * 33, "longer than 33554432"),
    ],
)
def test_bombs_meet_a_limit(content: bytes, text: str) -> None:
    with pytest.raises(LimitError, match=text):
        read(content)


def test_a_memo_is_bounded_by_its_entries_not_by_their_numbers() -> None:
    assert read(b"Nr\xff\xff\xff\xff0j\xff\xff\xff\xff.").value is None


def test_deep_nesting_without_marks_is_read_and_freed() -> None:
    found = read(b")" + b"\x85" * 500_000 + b".").value
    assert isinstance(found, tuple)
    del found


# -- verdicts


@pytest.mark.parametrize(
    ("module", "name", "expected"),
    [
        ("torch._utils", "_rebuild_tensor_v2", ALLOWED),
        ("torch", "FloatStorage", ALLOWED),
        ("torch", "float8_e4m3fn", ALLOWED),
        ("__builtin__", "set", ALLOWED),
        ("copy_reg", "_reconstructor", ALLOWED),
        ("collections", "OrderedDict", ALLOWED),
        ("argparse", "Namespace", UNKNOWN),
        ("torch.nn.modules.linear", "Linear", UNKNOWN),
        ("__main__", "Net", UNKNOWN),
        ("pytorch_lightning.callbacks", "ModelCheckpoint", UNKNOWN),
        ("os", "system", DANGEROUS),
        ("posix", "system", DANGEROUS),
        ("nt", "system", DANGEROUS),
        ("subprocess", "Popen", DANGEROUS),
        ("builtins", "eval", DANGEROUS),
        ("__builtin__", "exec", DANGEROUS),
        ("builtins", "getattr", DANGEROUS),
        ("importlib", "import_module", DANGEROUS),
        ("runpy", "_run_code", DANGEROUS),
        ("torch.storage", "_load_from_bytes", DANGEROUS),
        ("torch", "load", DANGEROUS),
        ("torch.fx.graph_module", "reduce_graph_module", DANGEROUS),
        ("torch", "os.system", DANGEROUS),
        ("torch.serialization", "os", DANGEROUS),
        ("collections", "OrderedDict.__init__.__globals__", DANGEROUS),
        ("torch._utils", "sys.modules", DANGEROUS),
        ("pickle", "loads", DANGEROUS),
        ("copyreg", "add_extension", DANGEROUS),
        ("uuid", "_get_command_stdout", DANGEROUS),
        ("uuid", "UUID", UNKNOWN),
        ("_osx_support", "_read_output", DANGEROUS),
        ("codecs", "open", DANGEROUS),
        ("gzip", "open", DANGEROUS),
        ("zipfile", "ZipFile", DANGEROUS),
        ("_socket", "socket", DANGEROUS),
        ("xmlrpc.client", "ServerProxy", DANGEROUS),
        ("ssl", "get_server_certificate", DANGEROUS),
        ("compileall", "compile_file", DANGEROUS),
        ("platform", "_syscmd_ver", DANGEROUS),
        ("platform", "uname_result", UNKNOWN),
        ("torch.jit.unsupported_tensor_ops", "execWrapper", DANGEROUS),
        ("torch.utils._config_module", "ConfigModule.load_config", DANGEROUS),
        ("torch.distributed.rpc.internal", "_run_function", DANGEROUS),
        ("torch.package", "PackageImporter", DANGEROUS),
        ("test.support.script_helper", "assert_python_ok", DANGEROUS),
        ("test.models", "Net", UNKNOWN),
        ("numexpr", "evaluate", DANGEROUS),
        ("pandas", "read_pickle", DANGEROUS),
        ("pandas.core.frame", "DataFrame", UNKNOWN),
    ],
)
def test_verdicts(module: str, name: str, expected: str) -> None:
    assert verdict(Global(module, name)) == expected


def test_dangerous_names_are_listed_first_and_cut() -> None:
    names = [Global("torch", "Size"), Global("z", "Z" * 500), Global("os", "system\ud800")]
    told = listed(names)
    assert [one["verdict"] for one in told] == [DANGEROUS, UNKNOWN, ALLOWED]
    assert told[0]["name"] == "os.system\\ud800"
    assert len(told[1]["name"]) < 250
