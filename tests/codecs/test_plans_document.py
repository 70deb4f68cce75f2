"""The test vectors of docs/format-plans.md, predicted by the program and by rescue.py."""

import json
import re
from pathlib import Path

import pytest

from hartonomous.codecs.prediction import predict
from hartonomous.core import plan as plans
from hartonomous.packs import rescue

PAGE = Path(__file__).resolve().parents[2] / "docs" / "format-plans.md"
TEXT = PAGE.read_text(encoding="utf-8")
_SECTION = re.compile(r"^### \d+\. (.+?)\n(.*?)(?=^### |\Z)", re.M | re.S)
_BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.S)


def read_hex(block: str) -> bytes:
    """Return the bytes of a block; each line begins with their position."""
    out = b""
    for line in block.splitlines():
        position, _, content = line.partition("  ")
        assert int(position, 16) == len(out)
        out += bytes.fromhex(content)
    return out


def vectors():
    for title, body in _SECTION.findall(TEXT):
        (kind, plan), *blocks = _BLOCK.findall(body)
        assert kind == "json" and all(kind == "hex" for kind, _ in blocks)
        *contents, expected = [read_hex(block) for _, block in blocks]
        yield pytest.param(plan.strip().encode(), contents, expected, id=title)


VECTORS = list(vectors())


def test_the_vectors_use_every_step_and_kind_of_target():
    found = [plans.decode(vector.values[0]) for vector in VECTORS]
    assert {type(step) for plan in found for step in plan.steps} == set(plans.AnyStep.__args__)
    assert {plan.dtype for plan in found} == plans.FLOAT_TARGETS
    assert len(found) == TEXT.count("\n### ")


@pytest.mark.parametrize(("content", "contents", "expected"), VECTORS)
def test_the_program_predicts_the_vectors(content, contents, expected):
    plan = plans.decode(content)
    assert plans.encode(plan) == content
    assert plans.base_bytes(plan) <= tuple(map(len, contents))
    for start, stop in ((0, len(expected)), (1, len(expected) - 1)):
        parts = [
            memoryview(base)[one.start : one.stop]
            for base, one in zip(contents, plans.windows(plan, start, stop), strict=True)
        ]
        assert bytes(predict(plan, start, stop, parts)) == expected[start:stop]


@pytest.mark.parametrize(("content", "contents", "expected"), VECTORS)
def test_rescue_predicts_the_vectors(content, contents, expected):
    made = rescue.Prediction(json.loads(content), lambda i, start, stop: contents[i][start:stop])
    assert made.bytes_of(0, len(expected)) == expected
    assert made.bytes_of(1, len(expected) - 1) == expected[1:-1]


def test_the_page_names_every_rule_and_member():
    for name in (*plans.NAN_RULES, *plans.COMPUTED, *plans.WIDENED):
        assert re.search(rf"\b{name}\b", TEXT)
    for kind in (plans.Plan, plans.Operand, *plans.AnyStep.__args__):
        assert all(f"`{field}`" in TEXT for field in kind.__struct_fields__)
        tag = kind.__struct_config__.tag
        assert tag is None or f"`{tag}`" in TEXT
