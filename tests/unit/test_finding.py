"""Findings from descriptions: what would run, how bad it is, nothing that a file only claims."""

from typing import Any

import pytest

from hartonomous.core.description import Description, Notice
from hartonomous.core.finding import FINDINGS_A_FILE, Severity, find_code, warning


def found_in(path: str, format_name: str, metadata: dict[str, Any]) -> list[tuple[str, str]]:
    description = Description(format=format_name, metadata=metadata)
    return [(one.severity.value, one.kind) for one in find_code([(path, description)])]


def named(*names: tuple[str, str]) -> dict[str, Any]:
    return {"globals": [{"name": name, "verdict": verdict} for name, verdict in names]}


@pytest.mark.parametrize(
    ("path", "format_name", "metadata", "expected"),
    [
        ("m.pt", "torch-zip", named(("os.system", "dangerous"), ("torch.Size", "allowed")),
         [("danger", "pickle")]),
        ("m.pt", "torch-legacy", named(("a.B", "unknown")), [("unknown", "pickle")]),
        ("__0_0.distcp", "torch-distributed", named(("os.system", "dangerous")),
         [("danger", "pickle")]),
        (".metadata", "torch-distributed-index", named(("os.system", "dangerous")),
         [("danger", "pickle")]),
        ("m.npy", "npy", named(("os.system", "dangerous")), [("danger", "pickle")]),
        ("m.npz", "npz", {**named(), "unread": "'a': it ends"}, [("unknown", "pickle")]),
        ("m.pkl", "pickle", {**named(), "unread": "at 3: it ends"}, [("unknown", "pickle")]),
        ("config.json", "hf-config", {"auto_map": {"AutoModel": "modeling_x.X"}},
         [("code", "remote-code")]),
        ("tokenizer_config.json", "hf-tokenizer-config",
         {"auto_map": {"AutoTokenizer": ["tok.X", None]}}, [("code", "remote-code")]),
        ("config.json", "hf-config", {"custom_pipelines": {"x": {"impl": "p.X"}}},
         [("code", "remote-code")]),
        ("config.json", "hf-config", {"trust_remote_code": True}, [("code", "remote-code")]),
        ("adapter_config.json", "hf-adapter-config",
         {"auto_mapping": {"base_model_class": "X", "parent_library": "modeling_x"}},
         [("code", "remote-code")]),
        ("model_index.json", "hf-pipeline", {"_class_name": ["my_pipeline", "MyPipeline"]},
         [("code", "remote-code")]),
        ("model_index.json", "hf-pipeline",
         {"_class_name": "P", "unet": ["my_unet", "U"], "vae": ["diffusers", "V"],
          "x": [None, None], "scale": 2},
         [("code", "remote-code")]),
        ("modules.json", "hf-sentence-modules",
         {"modules": [{"type": "sentence_transformers.models.Pooling"}, {"type": "custom_st.T"}]},
         [("code", "remote-code")]),
        ("modeling_x.py", "file", {}, [("code", "python-file")]),
        ("m.pt", "torch-zip", {**named(), "script_count": 3}, [("code", "script")]),
        ("m.keras", "keras", named(("os.system", "dangerous"), ("x.Y", "unknown")),
         [("danger", "import"), ("unknown", "import")]),
        ("m.onnx", "onnx", {"custom_operators": {"com.example": {"F": 2}}},
         [("code", "operator")]),
        ("m.onnx", "onnx", {"custom_operators": {"com.microsoft": {"Gelu": 2}}}, []),
        ("m.gguf", "gguf",
         {"_chat_templates": [{"name": "default", "calls": ["f"], "dangers": ["it reaches"]}]},
         [("danger", "template"), ("code", "template")]),
        ("m.keras", "keras", {"lambda_layers": [{"name": "l", "bytecode": True}]},
         [("danger", "lambda")]),
        ("m.keras", "keras", {"lambda_layers": [{"name": "l", "bytecode": False}]},
         [("code", "lambda")]),
        ("m.h5", "hdf5", {"lambda_layers": [{"name": None, "bytecode": None}]},
         [("danger", "lambda")]),
    ],
)  # fmt: skip
def test_what_each_kind_of_file_would_run(path, format_name, metadata, expected) -> None:
    assert found_in(path, format_name, metadata) == expected


@pytest.mark.parametrize(
    ("format_name", "metadata"),
    [
        ("gguf", named(("os.system", "dangerous"))),
        ("hf-config", named(("os.system", "dangerous"))),
        ("hf-config", {"_chat_templates": [{"dangers": ["x"]}]}),
        ("hf-config", {"lambda_layers": [{"bytecode": True}], "custom_operators": {"x": {"F": 1}}}),
        ("hf-config", {"auto_map": None, "custom_pipelines": [], "trust_remote_code": False}),
        ("hf-config", {"auto_map": {"a": 3, "b": [None, 3]}}),
        ("gguf", {"_chat_templates": "text"}),
        ("gguf", {"_chat_templates": ["text", {"calls": 3, "dangers": None}]}),
        ("torch-zip", {"globals": "text"}),
        ("torch-zip", {"globals": ["text", 3, None]}),
        ("hf-pipeline", {"_class_name": "StableDiffusionPipeline", "unet": ["diffusers", "U"]}),
    ],
)
def test_what_other_keys_and_other_values_say_is_nothing(format_name, metadata) -> None:
    assert found_in("a.json", format_name, metadata) == []


def test_a_checkpoint_that_cannot_be_read_is_unknown() -> None:
    notice = Notice(kind="structure", text="not taken as torch-zip: the zip file is cut")
    broken = Description(format="file", notices=(notice,))
    (one,) = find_code([("model.pt", broken)])
    assert (one.severity, one.kind) == (Severity.UNKNOWN, "pickle")
    assert find_code([("notes.txt", broken)]) == []


def test_the_worst_comes_first_and_files_are_bounded() -> None:
    many = named(*((f"m.N{at}", "unknown") for at in range(1000)))
    members = [
        ("a.pt", Description(format="torch-zip", metadata=many)),
        ("b.py", Description(format="file")),
        ("z.pt", Description(format="torch-zip", metadata=named(("os.system", "dangerous")))),
    ]
    found = find_code(members)
    assert len(found) == FINDINGS_A_FILE + 2
    assert [one.file for one in found[:3]] == ["z.pt", "b.py", "a.pt"]
    told = warning(found)
    assert told is not None
    assert "1 danger, 1 piece of code, 256 unknowns" in told and "os.system" in told


def test_texts_are_made_safe() -> None:
    name = "os.\x1b[2Jsystem\n" + "x" * 5000
    members = [("a\nb.pt", Description(format="torch-zip", metadata=named((name, "dangerous"))))]
    (one,) = find_code(members)
    assert one.text.isprintable() and len(one.text) <= 512 and one.file == "a b.pt"


def test_calls_of_templates_alone_give_no_warning() -> None:
    quiet = {"_chat_templates": [{"name": "default", "calls": ["f"], "dangers": []}]}
    assert warning(find_code([("m.gguf", Description(format="gguf", metadata=quiet))])) is None
    assert warning([]) is None


def test_python_files_and_unknown_names_alone_give_no_warning() -> None:
    members = [
        ("a.py", Description(format="file")),
        ("b.pt", Description(format="torch-zip", metadata=named(("x.Y", "unknown")))),
    ]
    assert warning(find_code(members)) is None
    mapped = Description(format="hf-config", metadata={"auto_map": {"AutoModel": "a.X"}})
    told = warning(find_code([*members, ("config.json", mapped)]))
    assert told is not None and "2 pieces of code, 1 unknown" in told
