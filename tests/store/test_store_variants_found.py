"""Which stored tensors a variant is built on: adapters, sums, sources of quantised copies."""

import json

import gguf
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save

from hartonomous.core.digest import digest

SHAPE = (512, 256)


def normal(seed, shape=SHAPE, scale=0.02):
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def model(**tensors):
    return save({name: np.ascontiguousarray(value) for name, value in tensors.items()})


def quantised(folder, kind, **tensors):
    """Return a GGUF file, as its own library quantises and writes it."""
    path = folder / "written.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for name, value in tensors.items():
        writer.add_tensor(name, gguf.quants.quantize(value, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


@pytest.fixture
def add(store, source):
    def added(name, content, file=None):
        return store.add(source(file or f"{name}.safetensors", content), name=name)

    return added


def base_of(store, name, tensor="a"):
    return store.explain(name, tensor).pieces[0].bases


def called(*values):
    return tuple(f"blake3:{digest(np.ascontiguousarray(one).tobytes()).hex()}" for one in values)


def stored_for(store, name, tensor="a"):
    return sum(one.stored_bytes for one in store.explain(name, tensor).pieces)


def check_bytes(store, tmp_path, contents):
    out = tmp_path / "out"
    out.mkdir()
    for name, content in contents.items():
        store.get(name, out / name)
        found = out / name if (out / name).is_file() else next((out / name).iterdir())
        assert found.read_bytes() == content, name
    assert store.verify(files=True).sound


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("same_name", [True, False])
def test_a_merged_adapter_is_its_base_and_the_adapter(
    store, add, source, tmp_path, same_name, together
):
    rank, scale = 8, 2.0
    base = normal(1)
    left, right = normal(2, (SHAPE[0], rank), 0.05), normal(3, (rank, SHAPE[1]), 0.05)
    others = [normal(4, (SHAPE[0], rank), 0.05), normal(5, (rank, SHAPE[1]), 0.05)]
    merged = (base + np.float32(scale) * (left @ right)).astype(np.float32)
    add("base", model(**{"layers.0.q_proj.weight": base}))
    folder = tmp_path / "adapter"
    folder.mkdir()
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "base_model_name_or_path": "base"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    names = [f"base_model.model.layers.{layer}.q_proj.lora_{one}.weight"
             for layer in (0, 1) for one in "BA"]  # fmt: skip
    matrices = dict(zip(names, [left, right, *others], strict=True))
    (folder / "adapter_model.safetensors").write_bytes(save(matrices))
    name = "layers.0.q_proj.weight" if same_name else "blk.0.attn_q.weight"
    content = model(**{name: merged})
    file = source("merged", content)
    for some in [[folder, file]] if together else [[folder], [file]]:
        store.add(some)
    told = store.explain("merged", name)
    assert told.pieces[0].bases == called(base, left, right)
    assert "scale 2" in told.reason
    assert stored_for(store, "merged", name) < 0.05 * merged.nbytes
    check_bytes(store, tmp_path, {"merged": content})


def test_a_removed_or_absent_adapter_is_no_obstacle(store, add, tmp_path):
    base = normal(1)
    left, right = normal(2, (SHAPE[0], 4), 0.05), normal(3, (4, SHAPE[1]), 0.05)
    merged = (base + left @ right).astype(np.float32)
    add("base", model(a=base))
    content = model(a=merged)
    add("merged", content)
    check_bytes(store, tmp_path, {"merged": content})


def test_a_quantised_copy_is_built_on_floats_beside_other_quantised_copies(store, add, tmp_path):
    base = normal(1)
    kinds = gguf.GGMLQuantizationType
    eight = quantised(tmp_path, kinds.Q8_0, a=base)
    five = quantised(tmp_path, kinds.Q5_0, a=base)
    four = quantised(tmp_path, kinds.Q4_0, a=base)
    add("base", model(a=base))
    for name, content in (("eight", eight), ("five", five), ("four", four)):
        add(name, content, f"{name}.gguf")
        assert base_of(store, name) == called(base), name
        assert stored_for(store, name) < 0.02 * len(content)
    check_bytes(store, tmp_path, {"eight": eight, "five": five, "four": four})


def test_a_copy_quantised_from_halves_is_told_from_one_of_floats(store, add, tmp_path):
    base = normal(1)
    tuned = base + normal(2, scale=0.0005)
    half = tuned.astype(np.float16)
    content = quantised(tmp_path, gguf.GGMLQuantizationType.Q8_0, a=half.astype(np.float32))
    add("base", model(a=base))
    add("tuned", model(a=tuned))
    add("quantised", content, "q.gguf")
    assert base_of(store, "quantised") == called(tuned)
    assert stored_for(store, "quantised") < 0.005 * len(content)
    check_bytes(store, tmp_path, {"quantised": content})


def test_without_floats_a_quantised_relative_serves(store, add, tmp_path):
    kinds = gguf.GGMLQuantizationType
    eight = quantised(tmp_path, kinds.Q8_0, a=normal(1))
    values = gguf.quants.dequantize(gguf.quants.quantize(normal(1), kinds.Q8_0), kinds.Q8_0)
    four = quantised(tmp_path, kinds.Q4_0, a=values)
    add("eight", eight, "eight.gguf")
    add("four", four, "four.gguf")
    assert len(base_of(store, "four")) == 1
    assert stored_for(store, "four") < 0.02 * len(four)
    check_bytes(store, tmp_path, {"four": four})


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("turned", [False, True])
def test_rounded_bytes_are_built_on_floats(store, add, tmp_path, dtype, turned):
    base = normal(1)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    zero = 0 if dtype is np.int8 else 117
    scale = np.abs(base).max() / np.float32(137)
    values = base.T if turned else base
    codes = np.clip(np.rint(values / scale) + zero, low, high).astype(dtype)
    content = model(a=codes)
    add("base", model(a=base))
    add("rounded", content)
    assert base_of(store, "rounded") == called(base)
    assert stored_for(store, "rounded") < 0.01 * codes.nbytes
    check_bytes(store, tmp_path, {"rounded": content})


def scales_by(layout, values):
    """Return the scale of each element: one a row, a column, or a block of 128 × 128."""
    size = np.abs(values)
    if layout == "blocks":
        blocks = size.reshape(size.shape[0] // 128, 128, size.shape[1] // 128, 128)
        largest = np.broadcast_to(blocks.max(axis=(1, 3), keepdims=True), blocks.shape)
        return largest.reshape(size.shape)
    return np.broadcast_to(size.max(axis=1 if layout == "rows" else 0, keepdims=True), size.shape)


@pytest.mark.parametrize("layout", ["rows", "columns", "blocks"])
@pytest.mark.parametrize("kind", ["I8", "F8_E4M3"])
def test_scales_of_rows_columns_and_blocks_are_told(store, add, tmp_path, kind, layout):
    base = normal(1) * np.linspace(0.5, 2, SHAPE[0], dtype=np.float32)[:, None]
    base *= np.linspace(0.5, 2, SHAPE[1], dtype=np.float32)
    largest = np.float32(127 if kind == "I8" else 448)
    scaled = base / (scales_by(layout, base) / largest)
    if kind == "I8":
        content = model(a=np.rint(scaled).astype(np.int8))
    else:
        content = model(a=scaled.astype(ml_dtypes.float8_e4m3fn))
    add("base", model(a=base))
    add("rounded", content)
    assert base_of(store, "rounded") == called(base)
    assert stored_for(store, "rounded") < 0.1 * base.size
    check_bytes(store, tmp_path, {"rounded": content})


def test_the_rounded_copy_of_a_fine_tune_is_built_on_the_fine_tune(store, add):
    base = normal(1)
    models = {f"m{seed}": base + normal(seed, scale=0.003) for seed in range(2, 7)}
    add("base", model(a=base))
    for name, value in models.items():
        add(name, model(a=value))
    for name, value in models.items():
        scale = np.abs(value).max() / np.float32(127)
        add(f"{name}-int8", model(a=np.rint(value / scale).astype(np.int8)))
        assert base_of(store, f"{name}-int8") == called(value)
        assert stored_for(store, f"{name}-int8") < 0.01 * value.size


def chain(store, add, length):
    """Add fine-tunes of fine-tunes until one is as deep as the setting allows; return all."""
    values = [normal(1)]
    for at in range(length):
        values.append(values[-1] + normal(20 + at, scale=0.0002 * 0.2**at))
    for at, value in enumerate(values):
        add(f"m{at}", model(a=value))
    return values


def depth_of(store, name):
    return store.explain(name, "a").pieces[0].depth


def test_nothing_is_built_on_the_end_of_a_chain(store, add, tmp_path):
    values = chain(store, add, 2)
    assert [depth_of(store, f"m{at}") for at in range(3)] == [0, 1, 2]
    mean = values[0].astype(np.float64) * 0.5 + values[2].astype(np.float64) * 0.5
    contents = {
        "next": model(a=values[2] + normal(30, scale=0.0002)),
        "half": model(a=values[2].astype(np.float16)),
        "mean": model(a=mean.astype(np.float32)),
        "q8": quantised(tmp_path, gguf.GGMLQuantizationType.Q8_0, a=values[2]),
    }
    for name, content in contents.items():
        add(name, content, f"{name}.gguf" if name == "q8" else None)
        assert 0 < depth_of(store, name) <= 2, name
    check_bytes(store, tmp_path, contents)


def test_what_resembles_an_exact_copy_is_built_on_what_that_is_a_copy_of(store, add, tmp_path):
    base = normal(1)
    brain = base.astype(ml_dtypes.bfloat16)
    contents = {
        "base": model(a=base),
        "brain": model(a=brain),
        "half": model(a=brain.astype(np.float32).astype(np.float16)),
        "tuned": model(a=(base + normal(2, scale=0.0002)).astype(ml_dtypes.bfloat16)),
        "q8": quantised(tmp_path, gguf.GGMLQuantizationType.Q8_0, a=brain.astype(np.float32)),
    }
    for name, content in contents.items():
        add(name, content, f"{name}.gguf" if name == "q8" else None)
    for name in ("brain", "half", "tuned", "q8"):
        assert base_of(store, name) == called(base), name
        assert depth_of(store, name) == 1
    assert stored_for(store, "half") == 0
    check_bytes(store, tmp_path, contents)


def test_copies_of_one_parent_do_not_hide_the_other(store, add, tmp_path):
    one, two = normal(1), normal(1) + normal(2, scale=0.004)
    contents = {"two": model(a=two), "one": model(a=one)}
    for name, kind in (("half", np.float16), ("brain", ml_dtypes.bfloat16)):
        made = one.astype(kind)
        contents[name] = model(a=made)
        contents[f"{name}-wide"] = model(a=made.astype(np.float32))
        contents[f"{name}-turned"] = model(a=made.astype(np.float32).T)
    contents["turned"] = model(a=one.T)
    contents["half-turned"] = model(a=one.T.astype(np.float16))
    contents["brain-half"] = model(a=one.astype(ml_dtypes.bfloat16).astype(np.float16))
    mean = (one.astype(np.float64) * 0.75 + two.astype(np.float64) * 0.25).astype(np.float32)
    contents["mean"] = model(a=mean)
    for name, content in contents.items():
        add(name, content)
    assert set(base_of(store, "mean")) == set(called(one, two))
    assert stored_for(store, "mean") == 0
    check_bytes(store, tmp_path, contents)


def half_sum(one, two):
    return (one.astype(np.float64) * 0.5 + two.astype(np.float64) * 0.5).astype(np.float32)


def test_a_deeper_base_is_taken_only_where_it_saves_clearly_more(store, add, tmp_path):
    base = normal(1)
    first = base + normal(2, scale=0.0002)
    contents = {
        "base": model(a=base),
        "first": model(a=first),
        "aside": model(a=first + normal(3, scale=0.00018)),
        "onwards": model(a=first + normal(4, scale=0.000004)),
    }
    for name, content in contents.items():
        add(name, content)
    # A fine-tune that moved on as far again is hardly nearer to the first one than to the base.
    assert base_of(store, "aside") == called(base)
    assert base_of(store, "onwards") == called(first)
    assert [depth_of(store, name) for name in contents] == [0, 1, 1, 2]
    check_bytes(store, tmp_path, contents)


def test_a_merge_is_exact_though_a_parent_came_after_its_own_half(store, add, tmp_path):
    """The parent is not built on its half, which would leave no room for the merge above it."""
    early = normal(1)
    parent = early + normal(3, scale=0.0001)
    other = early + normal(4, scale=0.0002)
    contents = {
        "early": model(a=early),
        "parent-half": model(a=parent.astype(np.float16)),
        "other": model(a=other),
        "parent": model(a=parent),
        "merged": model(a=half_sum(parent, other)),
    }
    for name, content in contents.items():
        add(name, content)
    assert depth_of(store, "parent-half") == 1
    assert depth_of(store, "parent") == 1
    assert set(base_of(store, "merged")) == set(called(parent, other))
    assert stored_for(store, "merged") == 0
    # The half costs nothing any more once all is looked at again.
    assert stored_for(store, "parent-half") > 0
    store.repack()
    assert base_of(store, "parent-half") == called(parent)
    assert stored_for(store, "parent-half") == 0
    assert max(depth_of(store, name) for name in contents) == 2
    check_bytes(store, tmp_path, contents)


def test_rounded_and_quantised_copies_do_not_hide_a_parent(store, add, tmp_path):
    base = normal(1)
    tunes = [base + normal(20 + at, scale=0.0009) for at in range(3)]
    contents = {"base": model(a=base)}
    contents |= {f"tune{at}": model(a=one) for at, one in enumerate(tunes)}
    for at in range(3):
        mean = half_sum(tunes[at], tunes[at - 1])
        contents[f"mean{at}"] = model(a=mean)
        contents[f"mean{at}-brain"] = model(a=mean.astype(ml_dtypes.bfloat16))
    for kind in ("Q8_0", "Q5_1", "Q5_0"):
        contents[kind] = quantised(tmp_path, gguf.GGMLQuantizationType[kind], a=base)
    wanted = 0.6 * tunes[0].astype(np.float64) + 0.6 * tunes[2] - 0.2 * base.astype(np.float64)
    contents["task"] = model(a=wanted.astype(np.float32))
    for name, content in contents.items():
        add(name, content, f"{name}.gguf" if name.startswith("Q") else None)
    assert set(base_of(store, "task")) == set(called(tunes[0], tunes[2], base))
    assert stored_for(store, "task") < 0.2 * wanted.size
    check_bytes(store, tmp_path, contents)
