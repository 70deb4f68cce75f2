"""Hostile checkpoints: nothing in them runs, each is told of, and each is kept byte for byte."""

import io
import pickle
import struct
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch_writer
from torch_writer import Called, Name, Raw, Tensor, archive, legacy, opcodes, pickled, zipped

import hartonomous as hn
from hartonomous.core.description import Description
from hartonomous.formats.sandbox import ParserProcess

FIXTURES = Path(__file__).parents[1] / "fixtures" / "torch"
HERE = str(Path(__file__).parent)
WEIGHT = Tensor("0", "F32", 3, 0, (3,), (1,))
STORAGE = {"0": bytes(12)}
LEGACY_STORAGE = {"0": ("F32", bytes(12))}
TRACE = "/tmp/hartonomous-a-pickle-was-loaded"


@pytest.fixture(scope="module")
def parser() -> Iterator[ParserProcess]:
    formats = ("audited:TORCH_ZIP", "audited:TORCH_LEGACY", "audited:LOADING")
    with ParserProcess(formats=formats, search_path=(HERE,), wall_s=60, cpu_s=60) as process:
        yield process


def described(parser: ParserProcess, content: bytes, name: str = "model.pt") -> Description:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        return parser.describe(file.fileno(), name)


def called(module: str, name: str, *arguments: Any, state: Any = None) -> Called:
    return Called(Name(module, name), arguments, state)


class Reduced:
    """Python's own way to make a pickle that runs a command."""

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {TRACE}",)


COMMAND = f"touch {TRACE}"
# What a checkpoint says beside its tensor: (what its pickle holds, the name that is told of).
GADGETS: dict[str, tuple[Any, str]] = {
    "os.system": (called("os", "system", COMMAND), "os.system"),
    "posix": (called("posix", "system", COMMAND), "posix.system"),
    "nt": (called("nt", "system", COMMAND), "nt.system"),
    "python 2's exec": (called("__builtin__", "exec", f"open({TRACE!r}, 'w')"), "builtins.exec"),
    "eval": (called("builtins", "eval", f"open({TRACE!r}, 'w')"), "builtins.eval"),
    "open": (called("builtins", "open", TRACE, "w"), "builtins.open"),
    "subprocess": (called("subprocess", "Popen", ("touch", TRACE)), "subprocess.Popen"),
    "importlib": (called("importlib", "import_module", "antigravity"), "importlib.import_module"),
    "runpy": (called("runpy", "run_path", TRACE), "runpy.run_path"),
    "import alone": (Name("antigravity", "fly"), "antigravity.fly"),
    "dotted name": (called("torch", "os.system", COMMAND), "torch.os.system"),
    "getattr": (called("builtins", "getattr", Name("os", "path"), "join"), "builtins.getattr"),
    "nested pickle": (called("pickle", "loads", pickle.dumps(Reduced()).decode("latin-1")),
                      "pickle.loads"),
    "nested checkpoint": (called("torch.storage", "_load_from_bytes", "x"),
                          "torch.storage._load_from_bytes"),
    "torch.load": (called("torch", "load", "http://example.invalid/x.pt"), "torch.load"),
    "extension code": (Raw(b"\x82\x01)R"), "(copyreg extension).1"),
    "registers an extension": (called("copyreg", "add_extension", "os", "system", 1),
                               "copyreg.add_extension"),
    "partial": (called("functools", "partial", Name("os", "system"), COMMAND), "functools.partial"),
    "setstate": (called("operator", "attrgetter", "system", state={"f": Name("os", "system")}),
                 "operator.attrgetter"),
    "called and thrown away": (Raw(opcodes(called("os", "system", COMMAND)) + b"0N"), "os.system"),
    "named and thrown away": (Raw(b"cos\nsystem\n0N"), "os.system"),
    "in a key": (Raw(b"}(" + opcodes(called("os", "system", COMMAND)) + b"Nu"), "os.system"),
    "inst": (Raw(b"(" + opcodes(COMMAND) + b"ios\nsystem\n"), "os.system"),
    "obj": (Raw(b"(cos\nsystem\n" + opcodes(COMMAND) + b"o"), "os.system"),
    "newobj": (Raw(b"csubprocess\nPopen\n" + opcodes((["touch", TRACE],)) + b"\x81"),
               "subprocess.Popen"),
    "stack global": (Raw(b"\x8c\x02os\x8c\x06system\x93" + opcodes((COMMAND,)) + b"R"),
                     "os.system"),
    "stack global of built text": (
        Raw(opcodes(called("_codecs", "encode", "os", "ascii")) + b"\x8c\x06system\x93"
            + opcodes((COMMAND,)) + b"R"),
        "(built while loading).(unknown)",
    ),
    "stack global through the memo": (
        Raw(b"\x8c\x06system\x940\x8c\x02os\x94h\x00\x93" + opcodes((COMMAND,)) + b"R"),
        "os.system",
    ),
    "changes an allowed function": (
        Raw(b"ctorch._utils\n_rebuild_tensor_v2\n" + opcodes({"__code__": 1}) + b"b"),
        "torch._utils._rebuild_tensor_v2 (changed)",
    ),
    "reduced by pickle": (Raw(pickle.dumps(Reduced(), 2)[2:-1]), "posix.system"),
}  # fmt: skip


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("name", GADGETS)
def test_gadgets_are_told_of_and_do_nothing(parser: ParserProcess, name: str, form: str) -> None:
    gadget, told = GADGETS[name]
    value = {"gadget": gadget, "w": WEIGHT}
    content = archive(value, STORAGE) if form == "zip" else legacy(value, LEGACY_STORAGE)
    found = described(parser, content)
    assert found.format == f"torch-{form}"
    assert found.metadata["events"] == []
    assert [one.name for one in found.tensors] == ["w"]
    assert {"name": told, "verdict": "dangerous"} in found.metadata["globals"]
    assert found.notices[0].kind == "dangerous-pickle"
    assert told in found.notices[0].text
    assert not Path(TRACE).exists()


def test_the_audit_hook_sees_what_loading_does(parser: ParserProcess) -> None:
    """The check of the check: Python's own unpickler raises events here."""
    found = described(parser, pickle.dumps(called), "loading")
    assert found.format == "file"  # its module cannot be imported in that process
    found = described(parser, b"cposixpath\njoin\n(S'a'\ntR.", "loading")
    assert found.format == "loaded"
    assert "pickle.find_class" in found.metadata["events"]


@pytest.mark.parametrize("name", sorted(one.name for one in FIXTURES.glob("*.pt")))
def test_nothing_is_done_with_ordinary_files_either(parser: ParserProcess, name: str) -> None:
    found = described(parser, (FIXTURES / name).read_bytes(), name)
    assert found.format.startswith("torch-")
    assert found.metadata["events"] == []


def view(**changes: Any) -> dict[str, Any]:
    """A checkpoint of one tensor with some of its fields replaced."""
    fields = {"storage": Raw(torch_writer.storage("0", "F32", 3)), "offset": 0, "shape": (3,),
              "strides": (1,)} | changes  # fmt: skip
    arguments = (*fields.values(), False, called("collections", "OrderedDict"))
    return {"w": called("torch._utils", "_rebuild_tensor_v2", *arguments)}


def stored(key: Any = "0", dtype: str = "F32", count: Any = 3) -> Raw:
    return Raw(torch_writer.storage(key, dtype, count))


HUGE = 2**62
VIEWS = {
    "offset behind the end": view(offset=1),
    "offset negative": view(offset=-1),
    "offset huge": view(offset=HUGE),
    "offset is a bool": view(offset=True),
    "offset is a text": view(offset="0"),
    "shape larger": view(shape=(4,)),
    "shape negative": view(shape=(-3,)),
    "shape wraps": view(shape=(HUGE, 4), strides=(0, 0)),
    "shape wraps to few": view(shape=(2**32, 2**32, 2), strides=(0, 0, 0)),
    "shape is a float": view(shape=(3.0,)),
    "shape is a name": view(shape=Name("torch", "Size")),
    "shape is a dict": view(shape={"0": 3}),
    "strides larger": view(strides=(2,)),
    "strides negative": view(strides=(-1,)),
    "strides huge": view(shape=(2,), strides=(HUGE,)),
    "strides of another length": view(strides=(1, 1)),
    "strides of a text": view(strides="1"),
    "no storage": view(storage=None),
    "storage is a tuple": view(storage=("storage", 1, "0", "cpu", 3)),
    "storage of no kind": view(storage=Raw(opcodes("0") + b"Q")),
    "storage short": view(storage=Raw(opcodes(("storage",)) + b"Q")),
    "storage missing": view(storage=stored("1")),
    "storage elsewhere": view(storage=stored("../data.pkl")),
    "storage longer": view(storage=stored(count=4)),
    "storage of wider elements": view(storage=stored(dtype="F64")),
    "storage negative": view(storage=stored(count=-3)),
    "storage huge": view(storage=stored(count=HUGE)),
    "storage key is a number": view(storage=stored(0)),
    "storage is called": view(
        storage=Raw(opcodes(("storage", called("os", "system", COMMAND), "0", "cpu", 3)) + b"Q")
    ),
    "storage of an unknown type": view(
        storage=Raw(opcodes(("storage", Name("os", "FloatStorage"), "0", "cpu", 3)) + b"Q")
    ),
    "storage within a storage": view(
        storage=Raw(
            opcodes(("storage", Name("torch", "FloatStorage"), "0", "cpu", 3, ("1", 0, 2))) + b"Q"
        )
    ),
    "no arguments": {"w": called("torch._utils", "_rebuild_tensor_v2")},
    "arguments are a list": {"w": Called(Name("torch._utils", "_rebuild_tensor_v2"), [1, 2, 3, 4])},
    "third version without type": {"w": called("torch._utils", "_rebuild_tensor_v3", 1, 2, 3, 4)},
    "parameter of nothing": {"w": called("torch._utils", "_rebuild_parameter")},
    "sparse of nothing": {"w": called("torch._utils", "_rebuild_sparse_tensor", 1)},
    "subclass of nothing": {"w": called("torch._tensor", "_rebuild_from_type_v2", 1)},
}  # fmt: skip
VIEW_LIMITS = {
    "65 axes": view(shape=(1,) * 65, strides=(1,) * 65),
    "long name": {"x" * 5000: WEIGHT},
    "deep": Raw(b"]" * 300 + opcodes(WEIGHT) + b"a" * 300),
    "shared without end": Raw(
        b"]" + opcodes(WEIGHT) + b"aq\x00" + b"".join(
            b"0](" + b"h\x00" * 30 + b"eq\x00" for _ in range(8)
        )
    ),
    "wide containers shared": Raw(
        b"](" + b"N" * 100_000 + opcodes(WEIGHT) + b"eq\x000](" + b"h\x00" * 5000 + b"e"
    ),
}  # fmt: skip


def retorn(content: bytes, change: dict[bytes, bytes]) -> bytes:
    for old, new in change.items():
        assert old in content
        content = content.replace(old, new)
    return content


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as made:
        for name in ("storages", "tensors", "pickle"):
            made.addfile(tarfile.TarInfo(name), io.BytesIO())
    return file.getvalue()


def duplicate() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        for value in ({"w": WEIGHT}, {"other": WEIGHT}):
            part = pickled(value)
            info = zipfile.ZipInfo("archive/data.pkl")
            made.NameToInfo.pop(info.filename, None)
            made.writestr(info, part)
        made.writestr("archive/data/0", bytes(12))
    return file.getvalue()


GOOD = archive({"w": WEIGHT}, STORAGE)
GOOD_LEGACY = legacy({"w": WEIGHT}, LEGACY_STORAGE)
FILES = {
    "empty": b"",
    "text": b"no checkpoint\n" * 10,
    "zip magic alone": b"PK\x03\x04",
    "zip cut": GOOD[:-30],
    "zip cut in the middle": GOOD[: len(GOOD) // 2],
    "zip with a script in front": b"#!/bin/sh\necho\n" + GOOD,
    "zip with a pickle in front": pickle.dumps(Reduced(), 2) + GOOD,
    "zip with another behind": GOOD + GOOD,
    "zip without a pickle": zipped({"archive/data/0": bytes(12)}),
    "zip with two pickles": zipped({"a/data.pkl": pickled({}), "b/data.pkl": pickled({})}),
    "zip with a name twice": duplicate(),
    "zip with a path that leads out": retorn(GOOD, {b"archive/data/0": b"../chive/data0"}),
    "zip with an absolute path": retorn(GOOD, {b"archive/data/0": b"/rchive/data/0"}),
    "zip with a wrong CRC": retorn(GOOD, {opcodes("w"): opcodes("v")}),
    "zip of an unknown byte order": archive({}, {}, byteorder="middle"),
    "pickle cut": zipped({"a/data.pkl": pickled({"w": 1})[:-1]}),
    "pickle empty": zipped({"a/data.pkl": b""}),
    "pickle is text": zipped({"a/data.pkl": b"hello"}),
    "huge text": zipped({"a/data.pkl": b"\x80\x04\x8d" + b"\xff" * 8 + b"."}),
    "huge bytearray": zipped({"a/data.pkl": b"\x80\x05\x96" + b"\xff" * 8 + b"."}),
    "huge integer": zipped({"a/data.pkl": b"\x80\x02\x8b\xff\xff\xff\x7f."}),
    "huge frame": zipped({"a/data.pkl": b"\x80\x04\x95" + b"\xff" * 8 + b"N."}),
    "storage of another member": zipped(
        {"a/data.pkl": pickled({"w": WEIGHT}), "b/data/0": bytes(12)}
    ),
    "legacy cut": GOOD_LEGACY[:-1],
    "legacy cut before its storages": GOOD_LEGACY[:-20],
    "legacy of another version": retorn(GOOD_LEGACY, {torch_writer.VERSION: b"\x80\x02M\xe8\x03."}),
    "legacy magic alone": torch_writer.MAGIC,
    "legacy with another count": retorn(GOOD_LEGACY, {struct.pack("<q", 3): struct.pack("<q", 2)}),
    "legacy with a negative count": retorn(
        GOOD_LEGACY, {struct.pack("<q", 3): struct.pack("<q", -1)}
    ),
    "legacy with a huge count": retorn(
        legacy({"w": Tensor("0", "F32", HUGE, 0, (3,), (1,))}, LEGACY_STORAGE),
        {struct.pack("<q", 3): struct.pack("<q", HUGE)},
    ),
    "legacy without keys": legacy({"w": WEIGHT}, {}),
    "legacy with keys of nothing": legacy({}, LEGACY_STORAGE),
    "tar": tar(),
    "bare pickle": pickle.dumps(Reduced(), 2),
}  # fmt: skip
LIMITS = {
    "opcodes": zipped(
        {"a/data.pkl": b"\x80\x02" + b"N0" * 1_600_000 + b"N."}, zipfile.ZIP_DEFLATED
    ),
    "memo": zipped(
        {"a/data.pkl": b"\x80\x04N" + b"\x94" * 700_000 + b"."}, zipfile.ZIP_DEFLATED
    ),
    "marks": zipped({"a/data.pkl": b"\x80\x02" + b"(" * 5_000 + b"."}),
    "objects": zipped({"a/data.pkl": b"\x80\x02" + b"}" * 700_000 + b"."}, zipfile.ZIP_DEFLATED),
    "long integer": zipped({"a/data.pkl": b"\x80\x02\x8b\x00\x20\x00\x00" + bytes(8192) + b"."}),
    "zip bomb": zipped({"a/data.pkl": bytes(40 << 20)}, zipfile.ZIP_DEFLATED),
    "names": zipped(
        {"a/data.pkl": b"".join(b"ca\nn%d\n0" % at for at in range(5_000)) + b"N."}
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", [*VIEWS, *VIEW_LIMITS])
def test_views_that_lie_cost_the_structure(parser: ParserProcess, name: str) -> None:
    value = (VIEWS | VIEW_LIMITS)[name]
    found = described(parser, archive(value, STORAGE))
    assert (found.format, found.tensors) == ("file", ())
    assert found.metadata == {"events": []}
    assert [one.kind for one in found.notices] == ["limit" if name in VIEW_LIMITS else "structure"]
    assert len(found.notices[0].text) < 300


@pytest.mark.parametrize("name", [*FILES, *LIMITS])
def test_broken_files_cost_the_structure(parser: ParserProcess, name: str) -> None:
    found = described(parser, (FILES | LIMITS)[name])
    assert (found.format, found.tensors) == ("file", ())
    assert found.metadata == {"events": []}
    # The parser said no; it was not stopped by the limits of its process.
    assert [one.kind for one in found.notices] == ["limit" if name in LIMITS else "structure"]
    assert len(found.notices[0].text) < 300


def test_what_the_hostile_files_were_made_from(parser: ParserProcess) -> None:
    for content in (GOOD, GOOD_LEGACY, archive(view(), STORAGE)):
        found = described(parser, content)
        assert [one.name for one in found.tensors] == ["w"]
        assert found.notices == ()


@pytest.mark.parametrize("content", [GOOD, GOOD_LEGACY], ids=["zip", "legacy"])
def test_truncated_at_every_byte(parser: ParserProcess, content: bytes) -> None:
    for length in range(len(content)):
        found = described(parser, content[:length])
        assert (found.format, len(found.notices)) == ("file", 1)


def test_every_hostile_file_is_kept_byte_for_byte(tmp_path: Path) -> None:
    contents = [*FILES.values(), *LIMITS.values()]
    contents += [archive(value, STORAGE) for value in (*VIEWS.values(), *VIEW_LIMITS.values())]
    contents += [archive({"g": gadget, "w": WEIGHT}, STORAGE) for gadget, _ in GADGETS.values()]
    folder = tmp_path / "hostile"
    folder.mkdir()
    for at, content in enumerate(contents):
        (folder / f"{at}.pt").write_bytes(content)
    with hn.open(tmp_path / "store", create=True) as store:
        report = store.add(folder)
        assert [one.error for one in report.artifacts] == [None] * len(contents)
        for one in report.artifacts:
            store.get(one.name, tmp_path / "out" / one.name)
    for at, content in enumerate(contents):
        (found,) = (tmp_path / "out").rglob(f"{at}.pt")
        assert (found / f"{at}.pt" if found.is_dir() else found).read_bytes() == content
    assert not Path(TRACE).exists()
