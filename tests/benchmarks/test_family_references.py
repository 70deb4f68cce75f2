"""Parts of the family, bases of its members, and the XOR reference on files that are made here."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import xor_reference
from family import definition
from family.definition import DefinitionError, Family, Member

FAMILY = definition.load()


def written(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    header, content = {}, b""
    for name, one in tensors.items():
        start = len(content)
        content += one.tobytes()
        dtype = {"float32": "F32", "float16": "F16"}[one.dtype.name]
        header[name] = {
            "dtype": dtype, "shape": one.shape, "data_offsets": [start, len(content)]
        }  # fmt: skip
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)
    return path


def member(name: str, *sources: str, recipe: str = "taken", kind: str = "fine-tune") -> Member:
    return Member(name=name, recipe=recipe, kind=kind, sources=sources)


def family_of(*members: Member) -> Family:
    return Family(parts=members, members=members)


BASE, TUNED = "one.safetensors", "two.safetensors"
PAIR = family_of(member(BASE, kind="base"), member(TUNED, BASE))


def weights(seed: int, rows: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 256)).astype(np.float32)


def nudged(values: np.ndarray) -> np.ndarray:
    """Return the values with another lowest bit, as training moves them a little."""
    return (values.view(np.uint32) ^ np.uint32(1)).view(np.float32)


def test_every_member_belongs_to_one_part():
    assert {FAMILY.part_of(one.name) for one in FAMILY.members} == {"minilm", "llama"}
    for one in FAMILY.members:
        assert one.name.startswith(FAMILY.part_of(one.name)), one.name


def test_what_comes_from_no_base_or_two_has_no_part():
    family = family_of(
        member("a", kind="base"), member("b", kind="base"), member("c", "a", "b"), member("d")
    )
    for name in ("c", "d"):
        with pytest.raises(DefinitionError, match=f"{name} belongs to"):
            family.part_of(name)


def test_bases_are_the_nearest_first_and_steps_are_passed():
    assert FAMILY.bases_of("llama") == []
    assert FAMILY.bases_of("minilm-tuned-100") == ["minilm"]
    assert FAMILY.bases_of("llama-average-bf16") == [
        "llama-average", "llama-decay-100", "llama-plain-100", "llama"
    ]  # fmt: skip


def test_casts_that_came_before_are_bases_in_their_type():
    assert list(xor_reference.declared(FAMILY, "llama-half-50")) == [
        "llama", "llama-bf16", "llama-f16"
    ]  # fmt: skip
    assert list(xor_reference.declared(FAMILY, "llama-bf16")) == ["llama"]


def test_a_tensor_with_a_base_costs_only_what_changed(tmp_path):
    base = weights(1)
    paths = [
        written(tmp_path / BASE, {"w": base}),
        written(tmp_path / TUNED, {"w": nudged(base)}),
    ]
    found = xor_reference.references(PAIR, {"all": paths})["all"]
    assert found.xor_plain == base.nbytes
    assert found.xor_stored < base.nbytes / 100
    assert found.other_stored > base.nbytes * 0.9


@pytest.mark.parametrize(
    "tensors",
    [
        {"other": nudged(weights(1))},
        {"w": nudged(weights(1))[:32]},
        {"w": weights(1).astype(np.float16)},
    ],
    ids=["another name", "another shape", "another type"],
)
def test_only_the_same_name_shape_and_type_is_a_base(tmp_path, tensors):
    paths = [written(tmp_path / BASE, {"w": weights(1)}), written(tmp_path / TUNED, tensors)]
    assert xor_reference.references(PAIR, {"all": paths})["all"].xor_plain == 0


def test_a_base_that_does_not_help_is_not_used(tmp_path):
    rng = np.random.default_rng(3)
    base = rng.integers(0, 1 << 32, (64, 256), dtype=np.uint32).view(np.float32)
    paths = [
        written(tmp_path / BASE, {"w": base}),
        written(tmp_path / TUNED, {"w": np.zeros((64, 256), np.float32)}),
    ]
    found = xor_reference.references(PAIR, {"all": paths})["all"]
    assert found.xor_plain == base.nbytes
    assert found.xor_stored < 100


def test_what_two_parts_hold_counts_for_the_first(tmp_path):
    tensors = {"w": weights(1)}
    first, second = (written(tmp_path / name, tensors) for name in (BASE, TUNED))
    found = xor_reference.references(PAIR, {"first": [first], "second": [second]})
    assert found["first"].stored_bytes > 0
    assert found["second"].stored_bytes == 0
