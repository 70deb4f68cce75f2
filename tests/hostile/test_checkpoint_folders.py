"""Hostile checkpoint folders, pickles and templates: nothing runs, all is told, bytes come back."""

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch_writer
from torch_writer import Called, Name, Raw, Tensor, archive, pickled

import hartonomous as hn
from hartonomous.core.template import TEXT_LIMIT
from hartonomous.opening import scan_place
from hartonomous.operations.scan import ScanReport
from hartonomous.store import Store

CHECKPOINTS = Path(__file__).parents[1] / "fixtures" / "checkpoints"
TRACE = "/tmp/hartonomous-a-pickle-was-loaded"
COMMAND = f"touch {TRACE}"
METADATA = "torch.distributed.checkpoint.metadata"
WEIGHT = Tensor("0", "F32", 3, 0, (3,), (1,))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with hn.open(tmp_path / "store", create=True) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


def files_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kept(store: Store, folder: Path) -> ScanReport:
    """Add a folder, get it back and compare; return what a scan says of it, stored and not."""
    report = store.add(folder, hidden=True)
    assert report.failed_count == 0
    back = folder.parent / "back"
    store.export_all(back)
    held = {name.rpartition("/")[2]: content for name, content in files_below(back).items()}
    assert held == {
        name.rpartition("/")[2]: content for name, content in files_below(folder).items()
    }
    assert not Path(TRACE).exists()
    on_disk = scan_place(folder)
    stored = [store.scan(one.name) for one in report.artifacts]
    for field in ("danger_count", "code_count", "unknown_count"):
        assert getattr(on_disk, field) == sum(getattr(one, field) for one in stored)
    assert not Path(TRACE).exists()
    return on_disk


def told(report: ScanReport, severity: str = "danger") -> str:
    return "\n".join(one.text for one in report.findings if one.severity == severity)


class Reduced:
    def __reduce__(self) -> Any:
        return os.system, (COMMAND,)


GADGETS: dict[str, tuple[Any, str]] = {
    "os.system": (Called(Name("os", "system"), (COMMAND,)), "os.system"),
    "importlib": (Called(Name("importlib", "import_module"), ("antigravity",)), "importlib"),
    "copyreg": (Called(Name("copyreg", "add_extension"), ("os", "system", 7)), "add_extension"),
    "extension code": (Raw(b"\x82\x07)R"), "(copyreg extension)"),
    "an allowed name that calls": (
        Called(Name("collections", "defaultdict"), (Name("os", "system"),)), "os.system",
    ),
    "state of an allowed name": (
        Called(Name("collections", "OrderedDict"), (), {"f": Name("builtins", "eval")}),
        "builtins.eval",
    ),
    "a changed class": (Raw(b"ctorch\nSize\n" + b"}b"), "torch.Size"),
    "a name that is built": (Raw(b"X\x02\x00\x00\x00osN\x93"), "built while loading"),
}  # fmt: skip


@pytest.mark.parametrize("name", GADGETS)
@pytest.mark.parametrize("file", ["model.pkl", "model.joblib", "pytorch_model.bin", "__0_0.distcp"])
def test_gadgets(store: Store, folder: Path, name: str, file: str) -> None:
    value, expected = GADGETS[name]
    content = pickled([1, value]) if "distcp" not in file else archive([value], {}) * 2
    (folder / file).write_bytes(content)
    assert expected in told(kept(store, folder))


def test_a_gadget_in_the_index_of_a_checkpoint(store: Store, folder: Path) -> None:
    index = Called(
        Name(METADATA, "Metadata"),
        (),
        {"state_dict_metadata": {}, "planner_data": Called(Name("os", "system"), (COMMAND,))},
    )
    (folder / ".metadata").write_bytes(pickled(index))
    (folder / "__0_0.distcp").write_bytes(archive(WEIGHT, {"0": bytes(12)}))
    assert "os.system" in told(kept(store, folder))


def index_of(tensors: dict[str, Any], places: Raw | dict[str, Any]) -> bytes:
    held = {"state_dict_metadata": tensors, "storage_data": places}
    return pickled(Called(Name(METADATA, "Metadata"), (), held))


def places(count: int, *, name: str = "w", file: str = "__0_0.distcp") -> Raw:
    """A dict whose keys are objects, which Python's literals cannot say."""
    entries = [
        torch_writer.opcodes(
            Called(Name(METADATA, "MetadataIndex"), (), {"fqn": f"{name}{at}", "offset": None})
        )
        + torch_writer.opcodes(
            Called(
                Name("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
                (),
                {"relative_path": file, "offset": at, "length": 1},
            )
        )
        for at in range(count)
    ]
    return Raw(b"}(" + b"".join(entries) + b"u")


BOMBS = {
    "deep nesting": b"\x80\x02" + b"(" * 200_000 + b"." ,
    "deep lists": b"\x80\x02" + b"]" * 1500 + b"a" * 1499 + b".",
    "lists that hold each other": b"\x80\x02]q\x00" + b"(h\x00h\x00e" * 50_000 + b".",
    "a memo of huge numbers": b"\x80\x02" + b"".join(
        b"Nr" + struct.pack("<I", 2**32 - 1 - at) + b"0" for at in range(1000)) + b"N.",
    "a text that is claimed": b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.",
    "doubling tuples": b"\x80\x02)" + b"2\x86" * 40 + b".",
    "doubling lists": index_of({"w": Raw(b"]" + b"2\x86" * 60)}, Raw(b"}")),
    "many items": index_of({}, places(3000, name="n" * 3000)),
    "files elsewhere": index_of({}, places(2, file="../../../../etc/passwd")),
    "names that reach out": index_of({}, places(2, name="../" * 100)),
    "a huge size": index_of({"w": Called(Name(METADATA, "TensorStorageMetadata"), (), {
        "properties": None, "size": Called(Name("torch", "Size"), ((2**80, 2**80),)),
        "chunks": []})}, Raw(b"}")),
    "an endless rank": index_of({"w": Called(Name(METADATA, "TensorStorageMetadata"), (), {
        "properties": None, "size": Called(Name("torch", "Size"), (tuple(range(2000)),)),
        "chunks": []})}, Raw(b"}")),
    "names of another one": index_of({"w": Called(Name("os", "system"), (), {"size": 3})},
                                     Raw(b"}")),
    "nothing": b"",
    "not a pickle": b"\x80" + bytes(1000),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_an_index_that_is_a_bomb(store: Store, folder: Path, name: str) -> None:
    (folder / ".metadata").write_bytes(BOMBS[name])
    (folder / "__0_0.distcp").write_bytes(archive(WEIGHT, {"0": bytes(12)}))
    kept(store, folder)
    (one,) = store.ls()
    shown = store.show(one.name)
    assert [file.path for file in shown.files] == [".metadata", "__0_0.distcp"]
    assert shown.files[1].tensor_count == 1


POLYGLOTS = {
    "a zip behind a pickle": lambda: pickled([1]) + archive(WEIGHT, {"0": bytes(12)}),
    "a pickle behind a zip": lambda: archive(WEIGHT, {"0": bytes(12)}) + pickle.dumps(Reduced()),
    "an archive with a pickle between": lambda: (
        archive(WEIGHT, {"0": bytes(12)}) + pickle.dumps(Reduced())
        + archive(WEIGHT, {"0": bytes(12)})
    ),
    "a pickle and then noise": lambda: pickle.dumps(Reduced()) + bytes(1000),
    "a safetensors head behind a pickle": lambda: pickle.dumps(Reduced()) + b"{}",
}  # fmt: skip


@pytest.mark.parametrize("name", POLYGLOTS)
@pytest.mark.parametrize("ending", [".pt", ".distcp", ".pkl", ".safetensors"])
def test_polyglots_are_never_taken_for_harmless(
    store: Store, folder: Path, name: str, ending: str
) -> None:
    (folder / f"model{ending}").write_bytes(POLYGLOTS[name]())
    report = kept(store, folder)
    if ending != ".safetensors":
        assert report.danger_count + report.unknown_count > 0


def test_a_shard_of_many_archives_is_bounded(store: Store, folder: Path) -> None:
    (folder / "__0_0.distcp").write_bytes(archive(WEIGHT, {"0": bytes(12)}) * 300)
    (folder / "__1_0.distcp").write_bytes(b"PK\x05\x06" + bytes(18))
    (folder / "__2_0.distcp").write_bytes((b"PK\x05\x06" + bytes(18)) * 50_000)
    kept(store, folder)
    (one,) = store.ls()
    counts = {file.path: file.tensor_count for file in store.show(one.name).files}
    assert counts == {"__0_0.distcp": 300, "__1_0.distcp": 0, "__2_0.distcp": 0}


def test_links_out_of_a_checkpoint_are_not_followed(store: Store, folder: Path) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(pickle.dumps(Reduced()))
    (folder / ".metadata").symlink_to(secret)
    (folder / "__0_0.distcp").write_bytes(archive(WEIGHT, {"0": bytes(12)}))
    (folder / "__2_0.distcp").write_bytes(archive(WEIGHT, {"0": bytes(12)}))
    (folder / "__1_0.distcp").symlink_to("/etc/passwd")
    report = store.add(folder)
    (added,) = report.artifacts
    assert added.file_count == 2
    assert sum("left out" in notice for notice in added.notices) == 2
    assert scan_place(folder).danger_count == 0


def test_a_configuration_cannot_hide_its_code_behind_other_keys(store: Store, folder: Path) -> None:
    config: dict[str, Any] = {f"key{at}": at for at in range(5000)}
    config |= {"_chat_templates": [], "auto_map": {"AutoModel": "evil.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    tokenizer: dict[str, Any] = {f"key{at}": at for at in range(5000)}
    template = "x" * 5000 + "{{ ''.__class__.__mro__ }}"
    tokenizer |= {"_chat_templates": [], "chat_template": template, "globals": []}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "model.bin").write_bytes(b"x")
    report = kept(store, folder)
    assert "__class__" in told(report)
    assert "evil.Model" in told(report, "code")


@pytest.mark.parametrize(
    "text",
    ["{" * 100_000, "{{ '" + "\\" * 100_000, "{{" + "[" * 100_000, "{% " + "x|attr(" * 20_000,
     "a" * (TEXT_LIMIT + 10) + "{{ ''.__class__ }}", "{{ " + "{" * 50_000 + "}" * 50_000],
)  # fmt: skip
def test_templates_made_to_cost(store: Store, folder: Path, text: str) -> None:
    (folder / "chat_template.jinja").write_text(text)
    report = kept(store, folder)
    assert (report.danger_count > 0) == (len(text) > TEXT_LIMIT)


def keras(config: Any) -> dict[str, bytes]:
    return {"config.json": json.dumps(config).encode(), "metadata.json": b"{}"}


@pytest.mark.parametrize(
    ("config", "dangers"),
    [
        ({"config": {"layers": [{"class_name": "Lambda", "config": {
            "name": "l", "function": {"class_name": "__lambda__", "config": {"code": "4wEA"}}}}]}},
         1),
        ({"layers": [{"class_name": "Lambda", "config": {"function": ["4wEAAAA=", None, None]}}]},
         1),
        ({"layers": [{"class_name": "keras>Lambda", "config": None}]}, 1),
        ({"layers": [{"class_name": "Lambda", "config": {"function": "relu"}}]}, 0),
        ({"layers": [{"class_name": "Dense", "config": {"name": "Lambda"}}]}, 0),
        ([[[[[[]]]]]], 0),
        ({"x": {"module": "os", "class_name": "function", "config": "system"}}, 1),
        ({"x": {"module": "keras.layers", "class_name": "Dense", "config": {}}}, 0),
        ({"x": {"module": "my_package", "class_name": "Layer", "config": {}}}, 0),
    ],
)  # fmt: skip
def test_lambda_layers_of_keras(store: Store, folder: Path, config: Any, dangers: int) -> None:
    with zipfile.ZipFile(folder / "model.keras", "w") as file:
        for name, content in keras(config).items():
            file.writestr(name, content)
    assert kept(store, folder).danger_count == dangers
    (one,) = store.ls()
    assert (one.kind, one.tensor_count) == ("file", 0)


def test_lambda_layers_in_hdf5(store: Store, folder: Path) -> None:
    text = json.dumps({"class_name": "Lambda", "config": {"function": ["4wEAAAA="]}}).encode()
    border = (8 << 20) - 8 - 10
    (folder / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(border) + text + bytes(100))
    (folder / "b.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(3000) + b'"class_name": "Dense"')
    (folder / "c.tflite").write_bytes(bytes(4) + b"TFL3" + bytes(1000))
    report = kept(store, folder)
    assert [(one.file, one.severity) for one in report.findings] == [("a.h5", "danger")]
    assert {one.kind for one in store.ls()} == {"file"}


def test_a_huge_index_of_shards_is_refused_and_kept(store: Store, folder: Path) -> None:
    shards = {f"layer.{at}.weight": "model-00001.safetensors" for at in range(300_000)}
    index = json.dumps({"weight_map": shards}).encode()
    (folder / "model.safetensors.index.json").write_bytes(index)
    (folder / "model.bin").write_bytes(b"x")
    kept(store, folder)
