"""Bare pickles: what loading them would name, found without loading."""

import collections
import decimal
import gzip
import io
import pickle
import pickletools
import struct
import zlib

import numpy as np
import pytest
from torch_writer import Called, Name, Raw, pickled

from hartonomous.core.description import Description
from hartonomous.formats.detect import describe
from hartonomous.formats.reader import BytesReader


class Wrapper:
    """Pickles as joblib's description of an array does, whose name its module's classes have."""

    def __init__(self, array: np.ndarray, alignment: int | None) -> None:
        self.subclass = np.ndarray
        self.shape = array.shape
        self.order = "C"
        self.dtype = array.dtype
        self.allow_mmap = True
        self.numpy_array_alignment_bytes = alignment


Wrapper.__module__, Wrapper.__qualname__ = "joblib.numpy_pickle", "NumpyArrayWrapper"
Wrapper.__name__ = "NumpyArrayWrapper"


class JoblibPickler(pickle._Pickler):  # the one in Python: save can be overridden
    """Writes arrays as joblib's NumpyPickler does: description, padding, bytes."""

    def __init__(self, file: io.BytesIO, alignment: int | None) -> None:
        super().__init__(file, protocol=3)
        self.raw = file
        self.alignment = alignment

    def save_global(self, obj, name=None):
        if obj is not Wrapper:
            super().save_global(obj, name)
            return
        self.write(b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n")
        self.memoize(obj)

    def save(self, obj, save_persistent_id=True):
        if not isinstance(obj, np.ndarray):
            return super().save(obj, save_persistent_id)
        super().save(Wrapper(obj, self.alignment), save_persistent_id)
        if obj.dtype.hasobject:
            pickle.dump(obj, self.raw, protocol=3)
            return None
        if self.alignment is not None:
            padding = self.alignment - (self.raw.tell() + 1) % self.alignment
            self.raw.write(bytes([padding]) + b"\xff" * padding)
        self.raw.write(obj.tobytes())
        return None


def joblib_dumped(value, alignment=16) -> bytes:
    file = io.BytesIO()
    JoblibPickler(file, alignment).dump(value)
    return file.getvalue()


def found_in(content: bytes, name: str = "model.pkl") -> Description:
    return describe(BytesReader(content), name)


def names_in(found: Description) -> dict[str, str]:
    return {one["name"]: one["verdict"] for one in found.metadata["globals"]}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_names_are_those_that_pickletools_sees(protocol: int) -> None:
    value = [collections.OrderedDict(a=decimal.Decimal("1.5")), {1, 2}, b"bytes", "text", 2**70]
    found = found_in(pickle.dumps(value, protocol=protocol))
    assert (found.format, found.tensors) == ("pickle", ())
    assert "unread" not in found.metadata
    told = names_in(found)
    assert told["collections.OrderedDict"] == "allowed"
    assert told["decimal.Decimal"] == "unknown"
    text = io.StringIO()
    pickletools.dis(pickle.dumps(value, protocol=protocol), out=text)
    assert all(name.rpartition(".")[2] in text.getvalue() for name in told)


def test_pickles_one_after_the_other() -> None:
    content = pickle.dumps(1) + pickle.dumps([collections.deque()]) + pickled(Name("os", "system"))
    found = found_in(content)
    assert found.metadata["pickle_count"] == 3
    assert names_in(found) == {"os.system": "dangerous", "collections.deque": "allowed"}
    assert [one.kind for one in found.notices] == ["dangerous-pickle"]


def test_arrays_of_objects_in_one_another_are_followed_so_deep() -> None:
    array = np.array([None], dtype=object)
    head, _, _ = joblib_dumped(array, None).partition(pickle.dumps(array, protocol=3))
    assert found_in(joblib_dumped([array, array])).metadata.get("unread") is None
    found = found_in(head * 5000)
    assert names_in(found)["joblib.numpy_pickle.NumpyArrayWrapper"] == "allowed"
    assert "deep in one another" in found.metadata["unread"]


@pytest.mark.parametrize("alignment", [None, 16])
def test_arrays_of_joblib_are_passed(alignment: int | None) -> None:
    value = {
        "trees": [np.arange(3000, dtype=np.float64), np.zeros((2, 3), np.int8)],
        "words": np.array(["some", "word"]),
        "records": np.zeros(3, dtype=[("a", "<i4"), ("b", "<f8")]),
        "objects": np.array([decimal.Decimal(1), None], dtype=object),
        "empty": np.zeros((0, 4)),
        "last": collections.Counter(),
    }
    found = found_in(joblib_dumped(value, alignment), "model.joblib")
    assert "unread" not in found.metadata, found.metadata
    told = names_in(found)
    assert told["joblib.numpy_pickle.NumpyArrayWrapper"] == "allowed"
    assert {"decimal.Decimal", "collections.Counter"} <= set(told)


def test_a_gadget_behind_an_array_of_joblib_is_seen() -> None:
    content = joblib_dumped([np.full(1000, 0x2E2E2E2E, np.uint32)])
    end = content.rindex(b".")
    found = found_in(content[:end] + b"0cos\nsystem\n" + content[end:], "model.joblib")
    assert names_in(found)["os.system"] == "dangerous"


@pytest.mark.parametrize("compress", [zlib.compress, gzip.compress])
def test_what_is_compressed_is_said_to_be_unread(compress) -> None:
    found = found_in(compress(pickle.dumps([1, 2])), "model.joblib")
    assert "compressed" in found.metadata["unread"]


def test_a_pickle_that_breaks_off_tells_what_it_named_before() -> None:
    content = b"\x80\x04cos\nsystem\nX" + struct.pack("<I", 1000) + b"short"
    found = found_in(content)
    assert names_in(found) == {"os.system": "dangerous"}
    assert found.metadata["unread"].startswith("at ")


@pytest.mark.parametrize("name", ["m.pt", "m.bin", "m.ckpt", "deep/.metadata"])
def test_a_bare_pickle_under_the_name_of_a_checkpoint(name: str) -> None:
    found = found_in(pickled(Called(Name("os", "system"), ("id",))), name)
    assert found.format == "pickle"
    assert names_in(found)["os.system"] == "dangerous"


def test_an_old_pickle_under_the_name_of_a_checkpoint() -> None:
    found = found_in(b"cos\nsystem\n(S'id'\ntR.", "pytorch_model.bin")
    assert names_in(found) == {"os.system": "dangerous"}


@pytest.mark.parametrize(
    "content",
    [b"", b"x", b"text\n" * 1000, bytes(4096), b"\x80", b"\xff" * 100, b"PK\x03\x04" + bytes(100)],
)
def test_what_is_no_pickle_stays_a_file(content: bytes) -> None:
    for name in ("a.pkl", "notes.bin", "other"):
        found = found_in(content, name)
        assert (found.format, found.tensors, found.metadata) == ("file", (), {})


def test_the_memo_and_the_stack_are_bounded() -> None:
    deep = b"\x80\x02" + b"(" * 5000 + b"."
    assert found_in(deep).format == "file"
    held = found_in(pickled([Name("os", "system"), Raw(b"(" * 5000)]))
    assert "nested deeper" in held.metadata["unread"]
