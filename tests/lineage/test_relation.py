"""What two versions are to each other, from how their tensors are kept: the rules alone."""

import pytest

from hartonomous.core.declaration import declared_kind, names_meant
from hartonomous.core.relation import RelationKind, Shares, Side, judge


def side(**given: object) -> Side:
    return Side(**{"tensor_bytes": 1000, "float_bits": 32, **given})  # type: ignore[arg-type]


def test_little_in_common_is_no_kinship() -> None:
    assert judge(side(), side(), Shares(equal=99)) is None
    assert judge(side(), side(), Shares(equal=100)) is not None


def test_a_cast_goes_from_more_bits_to_fewer() -> None:
    verdict = judge(side(float_bits=16), side(), Shares(cast=900))
    assert verdict is not None
    assert (verdict.kind, verdict.forward) == (RelationKind.CAST_OF, True)
    back = judge(side(), side(float_bits=16), Shares(cast=900))
    assert back is not None and back.forward is False
    same = judge(side(), side(), Shares(cast=900))
    assert same is not None and same.forward is None


def test_quantised_blocks_come_from_floats() -> None:
    verdict = judge(side(quantised=True, float_bits=0), side(), Shares(quantised=800))
    assert verdict is not None
    assert (verdict.kind, verdict.forward) == (RelationKind.QUANTISED_FROM, True)
    both = judge(side(quantised=True), side(quantised=True), Shares(quantised=800))
    assert both is not None and both.forward is None


def test_distance_has_no_direction_but_steps_have() -> None:
    near = judge(side(), side(), Shares(near=900))
    assert near is not None
    assert (near.kind, near.forward) == (RelationKind.NEAR, None)
    stepped = judge(side(step=50), side(step=100), Shares(near=900))
    assert stepped is not None
    assert (stepped.kind, stepped.forward) == (RelationKind.CHECKPOINT_AFTER, False)
    assert "100" in stepped.reason
    tuned = judge(side(optimizer=True), side(), Shares(near=900))
    assert tuned is not None and tuned.forward is True


def test_an_export_is_told_by_its_format() -> None:
    verdict = judge(
        side(formats=frozenset({"onnx"})), side(formats=frozenset({"safetensors"})),
        Shares(equal=500, transposed=500),
    )  # fmt: skip
    assert verdict is not None
    assert (verdict.kind, verdict.forward) == (RelationKind.EXPORTED_FROM, True)
    same = judge(side(), side(), Shares(equal=1000))
    assert same is not None and same.kind is RelationKind.SAME_TENSORS


def test_sums_are_merges() -> None:
    verdict = judge(side(), side(), Shares(merged=900, weights={0.5: 900}))
    assert verdict is not None and verdict.kind is RelationKind.MERGED_FROM


def test_what_an_adapter_was_merged_into_leaves_most_tensors_alone() -> None:
    """What is equal says nothing of what became of the rest."""
    verdict = judge(side(), side(), Shares(equal=800, merged=150, near=20))
    assert verdict is not None and verdict.kind is RelationKind.MERGED_FROM
    for shares in (Shares(equal=900, merged=20), Shares(equal=300, merged=150, cast=450)):
        verdict = judge(side(), side(), shares)
        assert verdict is not None and verdict.kind is not RelationKind.MERGED_FROM


@pytest.mark.parametrize(
    ("word", "adapter", "quantised", "kind"),
    [
        ("finetune", False, True, RelationKind.FINE_TUNE_OF),
        ("Quantized", False, False, RelationKind.QUANTISED_FROM),
        ("merge", False, False, RelationKind.MERGED_FROM),
        (None, True, False, RelationKind.ADAPTER_OF),
        (None, False, True, RelationKind.QUANTISED_FROM),
        ("something else", False, False, RelationKind.FINE_TUNE_OF),
    ],
)
def test_declared_words(
    word: str | None, adapter: bool, quantised: bool, kind: RelationKind
) -> None:
    assert declared_kind(word, adapter=adapter, quantised=quantised) is kind


def test_names_meant() -> None:
    assert names_meant("org/name") == ("org/name", "name")
    assert names_meant("/data/models/org/name/") == ("/data/models/org/name", "org/name", "name")
    assert names_meant("  ") == ()
