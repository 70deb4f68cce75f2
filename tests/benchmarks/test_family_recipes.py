"""The recipes that need numpy alone, on a tiny base: what they write, and the same twice."""

import json
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from blake3 import blake3
from family import build, definition, merged, rewritten, weights_file
from family.definition import Family, Member
from family.recipes import Making
from safetensors import safe_open
from safetensors.numpy import save_file

SHAPES = {
    "model.embed_tokens.weight": (40, 16),
    "lm_head.weight": (40, 16),
    "model.norm.weight": (16,),
}


def make_base(folder, seed):
    random = np.random.default_rng(seed)
    folder.mkdir()
    tensors = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in SHAPES.items()
    }
    tensors["model.ids"] = np.arange(8, dtype=np.int64)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"vocab_size": 40, "dtype": "float32"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture
def base(tmp_path):
    return make_base(tmp_path / "base", 1)


@pytest.fixture
def other(tmp_path):
    return make_base(tmp_path / "other", 2)


def made(recipe, target, *sources, seed=0, **parameters):
    recipe(Making(
        target=target, sources=sources, seed=seed, parameters=parameters,
        downloads=target.parent / "downloads",
    ))  # fmt: skip
    return target


def values(folder, name="model.safetensors"):
    return {one.name: one.read() for one in weights_file.read(folder / name)}


ALL = [
    (rewritten.cast, 1, {"dtype": "BF16"}),
    (rewritten.cast, 1, {"dtype": "F16"}),
    (rewritten.renamed, 1, {"prefix": "bert."}),
    (rewritten.renamed, 1, {"without": "model."}),
    (rewritten.reordered, 1, {}),
    (rewritten.sharded, 1, {"shards": 2}),
    (rewritten.one_array, 1, {"tensor": "lm_head.weight"}),
    (rewritten.taken, 1, {"path": "config.json"}),
    (merged.average, 2, {}),
    (merged.task_arithmetic, 2, {"scale": 0.5}),
    (merged.appended_vocabulary, 1, {"rows": 3, "tensors": ["lm_head.weight"]}),
]


@pytest.mark.parametrize(("recipe", "count", "parameters"), ALL)
def test_the_same_twice(tmp_path, base, other, recipe, count, parameters):
    sources = (base, other)[:count]
    first = made(recipe, tmp_path / "first", *sources, seed=5, **parameters)
    second = made(recipe, tmp_path / "second", *sources, seed=5, **parameters)
    assert build.measured(first) == build.measured(second)
    assert build.measured(first)[0] > 0


@pytest.mark.parametrize(("recipe", "count", "parameters"), ALL[:6] + ALL[8:])
def test_the_library_reads_what_they_write(tmp_path, base, other, recipe, count, parameters):
    target = made(recipe, tmp_path / "it", *(base, other)[:count], **parameters)
    read = {}
    for path in sorted(target.glob("*.safetensors")):
        ours = values(target, path.name)
        with safe_open(path, framework="numpy") as file:
            assert set(file.keys()) == set(ours)
            for name in file.keys():  # noqa: SIM118  # not a dictionary
                if ours[name].dtype != ml_dtypes.bfloat16:
                    np.testing.assert_array_equal(file.get_tensor(name), ours[name])
        read |= ours
    assert len(read) == 4


def test_a_cast_rounds_floats_and_leaves_the_rest(tmp_path, base):
    before, after = values(base), values(made(rewritten.cast, tmp_path / "it", base, dtype="F16"))
    name = "lm_head.weight"
    np.testing.assert_array_equal(after[name], before[name].astype(np.float16))
    assert after["model.ids"].dtype == np.int64
    config = json.loads((tmp_path / "it" / "config.json").read_text(encoding="utf-8"))
    assert config["dtype"] == "float16"


def test_another_order_has_the_same_tensors(tmp_path, base):
    target = made(rewritten.reordered, tmp_path / "it", base, seed=3)
    before, after = values(base), values(target)
    assert list(before) != list(after)
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array)


def test_shards_hold_everything_once_and_the_index_says_where(tmp_path, base):
    target = made(rewritten.sharded, tmp_path / "it", base, shards=2)
    index = json.loads((target / "model.safetensors.index.json").read_text(encoding="utf-8"))
    before = values(base)
    assert set(index["weight_map"]) == set(before)
    assert len(set(index["weight_map"].values())) == 2
    for name, file in index["weight_map"].items():
        np.testing.assert_array_equal(values(target, file)[name], before[name])


def test_an_average_is_between_and_task_arithmetic_starts_at_the_base(tmp_path, base, other):
    one, two, name = values(base), values(other), "lm_head.weight"
    mean = values(made(merged.average, tmp_path / "mean", base, other))
    np.testing.assert_allclose(mean[name], (one[name] + two[name]) / 2, rtol=1e-6, atol=1e-7)
    none = values(made(merged.task_arithmetic, tmp_path / "none", base, other, scale=0.0))
    np.testing.assert_array_equal(none[name], one[name])
    whole = values(made(merged.task_arithmetic, tmp_path / "whole", base, other, scale=1.0))
    np.testing.assert_allclose(whole[name], two[name], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(whole["model.ids"], one["model.ids"])


def test_a_longer_vocabulary_keeps_the_rows_that_were_there(tmp_path, base):
    target = made(
        merged.appended_vocabulary, tmp_path / "it", base,
        rows=3, tensors=["lm_head.weight", "model.embed_tokens.weight"],
    )  # fmt: skip
    after = values(target)["lm_head.weight"]
    assert after.shape == (43, 16)
    np.testing.assert_array_equal(after[:40], values(base)["lm_head.weight"])
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    assert config["vocab_size"] == 43


def test_missing_tensors_are_named(tmp_path, base):
    with pytest.raises(KeyError, match="nothing"):
        made(rewritten.one_array, tmp_path / "a", base, tensor="nothing")
    with pytest.raises(KeyError, match="nothing"):
        made(merged.appended_vocabulary, tmp_path / "b", base, rows=1, tensors=["nothing"])


# -- the builder


def small_family(base, **pins):
    parameters = {"path": str(base)}  # an absolute path under a source is that path
    first = Member(
        name="base", kind="base", recipe="taken", sources=("step",), parameters=parameters
    )
    step = Member(name="step", recipe="taken", sources=(), parameters=parameters)
    cast = Member(
        name="cast", kind="cast", recipe="cast", sources=("base",), parameters={"dtype": "BF16"},
        **pins,
    )  # fmt: skip
    return Family(parts=(step, first, cast), members=(first, cast))


@pytest.fixture
def folder(tmp_path, base):
    """A folder in which the step is made already, so that no recipe has to fetch anything."""
    target = tmp_path / "family"
    family = small_family(base)
    (target / "steps" / "step").mkdir(parents=True)
    record = {
        "name": "step",
        "key": family.key("step"),
        "size_bytes": 0,
        "blake3": "",
        "seconds": 0,
    }
    (target / "records").mkdir()
    (target / "records" / "step.json").write_text(json.dumps(record), encoding="utf-8")
    return target


def test_what_is_built_is_kept_and_what_is_lost_is_made_again(base, folder):
    family, said = small_family(base), []
    first = build.build(family, folder, say=said.append)
    assert len(said) == 2
    assert build.build(family, folder, say=said.append) == first
    assert len(said) == 2
    (folder / "records" / "cast.json").unlink()
    again = build.build(family, folder, ["cast"], said.append)
    assert len(said) == 3
    assert again[-1].blake3 == first[-1].blake3
    assert not list((folder / "unfinished").iterdir())


def test_a_digest_that_is_not_the_pinned_one_is_an_error(base, folder):
    record = build.build(small_family(base), folder, say=lambda _text: None)[-1]
    right = small_family(base, size_bytes=record.size_bytes, blake3=record.blake3)
    assert build.build(right, folder, say=lambda _text: None)[-1] == record
    wrong = small_family(base, size_bytes=record.size_bytes, blake3=64 * "0")
    with pytest.raises(build.PinError, match="cast has"):
        build.build(wrong, folder, say=lambda _text: None)


def test_a_size_that_is_not_the_expected_one_is_said(base, folder):
    record = build.build(small_family(base), folder, say=lambda _text: None)[-1]
    said = []
    near = small_family(base, size_bytes=record.size_bytes + 1)
    build.build(near, folder, say=said.append)
    assert said == []
    build.build(small_family(base, size_bytes=record.size_bytes * 2), folder, say=said.append)
    assert [text.split(":")[0] for text in said] == ["warning"]


def test_the_digest_of_a_folder_is_that_of_its_list(tmp_path):
    (tmp_path / "it" / "b").mkdir(parents=True)
    (tmp_path / "it" / "b" / "c.txt").write_bytes(b"two")
    (tmp_path / "it" / "a.txt").write_bytes(b"one")
    lines = "".join(
        f"{blake3(content).hexdigest()}  {path}\n"
        for path, content in (("a.txt", b"one"), ("b/c.txt", b"two"))
    )
    assert build.measured(tmp_path / "it") == (6, blake3(lines.encode()).hexdigest())


def test_importing_the_family_loads_nothing_to_train_with():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from family import build, definition, merged, rewritten, recipes; definition.load();"
        "print(sorted({'torch', 'onnx', 'transformers', 'hartonomous'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(definition.PINS.parent)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[]"
