"""Pairing of tensors, canonical names and metadata differences."""

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from hartonomous.core.canonical_name import canonical_name
from hartonomous.core.comparison import (
    ModelComparison,
    PairStatus,
    TensorUse,
    compare_models,
    has_comparable_values,
    pair_tensors,
)
from hartonomous.core.digest import digest
from hartonomous.core.metadata_comparison import compare_metadata
from hartonomous.core.value_comparison import ValueDifference


def use(name, content, *, dtype="F32", shape=(100,), length=400, member=""):
    return TensorUse(
        name=name,
        dtype=dtype,
        shape=shape,
        digest=digest(f"{content} in {length} bytes".encode()),
        length=length,
        member=member,
    )


def told(a, b):
    """Return (status, name in a, name in b) of every pair."""
    return [
        (str(pair.status), pair.a and pair.a.name, pair.b and pair.b.name)
        for pair in pair_tensors(a, b)
    ]


def test_every_status():
    a = [
        use("same", 1),
        use("reshaped", 2),
        use("retyped", 3, dtype="I16"),
        use("old", 4),
        use("cast", 5),
        use("changed", 6),
        use("resized", 7),
        use("removed", 8),
    ]
    b = [
        use("added", 9),
        use("resized", 10, shape=(101,)),
        use("changed", 11),
        use("cast", 12, dtype="BF16"),
        use("new", 4),
        use("retyped", 3, dtype="U16"),
        use("reshaped", 2, shape=(10, 10)),
        use("same", 1, member="other.safetensors"),
    ]
    assert told(a, b) == [
        ("same", "same", "same"),
        ("reshaped", "reshaped", "reshaped"),
        ("retyped", "retyped", "retyped"),
        ("renamed", "old", "new"),
        ("cast", "cast", "cast"),
        ("changed", "changed", "changed"),
        ("resized", "resized", "resized"),
        ("removed", "removed", None),
        ("added", None, "added"),
    ]


def test_a_moved_layer_is_found_by_its_content_not_by_its_old_place():
    a = [use(f"layers.{n}.weight", n) for n in range(4)]
    b = [use("layers.0.weight", 0), use("layers.1.weight", 2), use("layers.2.weight", 3)]
    assert told(a, b) == [
        ("same", "layers.0.weight", "layers.0.weight"),
        ("removed", "layers.1.weight", None),
        ("renamed", "layers.2.weight", "layers.1.weight"),
        ("renamed", "layers.3.weight", "layers.2.weight"),
    ]


def test_equal_zeros_elsewhere_do_not_take_a_tensor_from_its_name():
    a = [use("0.bias", "zeros"), use("1.bias", "zeros")]
    b = [use("0.bias", "trained"), use("1.bias", "zeros"), use("2.bias", "zeros")]
    assert told(a, b) == [
        ("changed", "0.bias", "0.bias"),
        ("same", "1.bias", "1.bias"),
        ("added", None, "2.bias"),
    ]


def test_short_tensors_are_not_moved_by_chance():
    a = [use("count_a", 1, length=8), use("count_b", 2, length=8)]
    b = [use("count_a", 2, length=8), use("count_b", 3, length=8)]
    assert told(a, b) == [
        ("changed", "count_a", "count_a"),
        ("changed", "count_b", "count_b"),
    ]


def test_copies_of_one_content_are_paired_by_shape_and_nearest_name():
    names = [f"layer.{n}.{part}.bias" for n in range(5) for part in ("key", "query")]
    a = [use(name, "zeros") for name in names] + [use("table", "zeros", shape=(10, 10))]
    b = [use(f"bert.{name}", "zeros") for name in reversed(names)]
    b.insert(3, use("grid", "zeros", shape=(10, 10)))
    pairs = told(a, b)
    assert pairs == [("renamed", name, f"bert.{name}") for name in names] + [
        ("renamed", "table", "grid")
    ]


def test_copies_of_unequal_number_leave_the_rest():
    a = [use(f"a{n}", "zeros") for n in range(3)]
    b = [use(f"b{n}", "zeros") for n in range(5)]
    statuses = [status for status, _, _ in told(a, b)]
    assert statuses == ["renamed"] * 3 + ["added"] * 2


def test_gguf_and_hugging_face_names_pair_up():
    a = [
        use("encoder.layer.3.attention.self.query.weight", 1, shape=(32, 32)),
        use("embeddings.word_embeddings.weight", 2, shape=(99, 32)),
    ]
    b = [
        use("token_embd.weight", 3, dtype="Q8_0", shape=(99, 32)),
        use("blk.3.attn_q.weight", 4, dtype="Q8_0", shape=(32, 32)),
    ]
    assert told(a, b) == [
        ("cast", a[0].name, b[1].name),
        ("cast", a[1].name, b[0].name),
    ]


def test_canonical_names_of_three_families():
    for name, expected in {
        "bert.encoder.layer.11.output.LayerNorm.bias": "blk.11.layer_output_norm.bias",
        "model.layers.0.self_attn.q_proj.weight": "blk.0.attn_q.weight",
        "base_model.model.model.layers.7.mlp.down_proj.weight": "blk.7.ffn_down.weight",
        "transformer.h.2.attn.c_attn.bias": "blk.2.attn_qkv.bias",
        "model.embed_tokens.weight": "token_embd.weight",
        "lm_head.weight": "output.weight",
        "blk.4.ffn_up.weight": "blk.4.ffn_up.weight",
        "model.layers.0.something.new.weight": "blk.0.something.new.weight",
        "model.": "model.",
        "weird": "weird",
        "": "",
    }.items():
        assert canonical_name(name) == expected


def test_pathological_names_stay_cheap():
    names = ["model." * 20_000, "." * 100_000, "layers." * 20_000 + "1.x.weight"]
    assert len({canonical_name(name) for name in names}) == 3
    assert len(pair_tensors([use(name, 1) for name in names], [use("b", 1)])) == 3


tensors = st.builds(
    use,
    st.sampled_from(["a.x", "b.x", "c.y", "model.a.x", "d"]),
    st.integers(0, 3),
    dtype=st.sampled_from(["F32", "BF16"]),
    shape=st.sampled_from([(4, 25), (100,)]),
    length=st.sampled_from([0, 8, 400]),
    member=st.sampled_from(["one", "two"]),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(tensors, max_size=12), st.lists(tensors, max_size=12))
def test_every_tensor_is_told_exactly_once(a, b):
    pairs = pair_tensors(a, b)
    assert [pair.a for pair in pairs if pair.a] == a
    assert sorted(map(repr, (pair.b for pair in pairs if pair.b))) == sorted(map(repr, b))
    left = {pair.a.digest for pair in pairs if pair.status is PairStatus.REMOVED and pair.a.length}
    right = {pair.b.digest for pair in pairs if pair.status is PairStatus.ADDED and pair.b.length}
    assert not left & right


@settings(deadline=None, max_examples=60)
@given(st.lists(tensors, max_size=12))
def test_a_model_is_the_same_as_itself_in_any_order(model):
    assert {pair.status for pair in pair_tensors(model, model[::-1])} <= {PairStatus.SAME}
    assert compare_models(pair_tensors(model, model)).summary.identical


def test_comparison_reads_values_only_where_they_tell_more_and_is_json():
    a = [use("same", 1), use("changed", 2), use("cast", 3), use("odd", 4), use("gone", 5)]
    b = [
        use("same", 1),
        use("changed", 6),
        use("cast", 7, dtype="F16"),
        use("odd", 8, dtype="IQ3_S"),
    ]
    pairs = pair_tensors(a, b)
    assert [pair.a.name for pair in pairs if has_comparable_values(pair)] == ["changed", "cast"]
    asked = []

    def read_values(pair):
        asked.append(pair.a.name)
        return ValueDifference(unit="element", unit_count=100, changed_count=1, changed_share=0.01)

    metadata = compare_metadata({"x": 1}, {"x": 2})
    found = compare_models(pairs, read_values=read_values, metadata=metadata)
    assert asked == ["changed", "cast"]
    assert not found.summary.identical
    assert (found.summary.tensor_count_a, found.summary.tensor_count_b) == (5, 4)
    assert {name: n for name, n in found.summary.statuses.items() if n} == {
        "same": 1, "changed": 1, "cast": 2, "removed": 1,
    }  # fmt: skip
    assert set(found.summary.statuses) == {str(status) for status in PairStatus}
    assert found.summary.shared_bytes == 400
    assert msgspec.json.decode(msgspec.json.encode(found), type=ModelComparison) == found


def test_metadata_differences_have_paths():
    a = {"config": {"layers": 6, "gone": None}, "tags": ["x", "y"], "same": [1, {"k": "v"}]}
    b = {"config": {"layers": 6.0, "new": True}, "tags": ["x", "z", "w"], "same": [1, {"k": "v"}]}
    found = compare_metadata(a, b)
    assert [(d.path, d.change, d.a, d.b) for d in found.differences] == [
        ("config.gone", "removed", None, None),
        ("config.layers", "changed", 6, 6.0),
        ("config.new", "added", None, True),
        ("tags[1]", "changed", "y", "z"),
        ("tags[2]", "added", None, "w"),
    ]
    assert found.omitted_count == 0


def test_metadata_is_bounded_and_json():
    a = {"many": list(range(50)), "long": "x" * 10_000, "nan": float("nan"), "big": 2**100}
    b = {"many": list(range(1, 51)), "long": "y" * 10_000, "nan": float("nan"), "big": 1}
    found = compare_metadata(a, b, limit=10)
    assert (len(found.differences), found.omitted_count) == (10, 42)
    whole = compare_metadata(a, b)
    assert all(len(str(d.a)) <= 200 for d in whole.differences)
    assert "nan" not in {d.path for d in whole.differences}
    assert msgspec.json.decode(msgspec.json.encode(whole), type=type(whole)) == whole
    infinite = compare_metadata({"x": float("inf")}, {"x": {"k": 1}}).differences[0]
    assert (infinite.a, infinite.b) == ("Infinity", "1 key")


def test_deep_metadata_does_not_recurse():
    a, b = {}, {}
    inner_a, inner_b = a, b
    for _ in range(50_000):
        inner_a["k"], inner_b["k"] = {}, {}
        inner_a, inner_b = inner_a["k"], inner_b["k"]
    inner_a["end"], inner_b["end"] = 1, 2
    found = compare_metadata(a, b)
    assert [(d.a, d.b) for d in found.differences] == [(1, 2)]
    assert len(found.differences[0].path) == 200
