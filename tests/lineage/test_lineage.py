"""Lineage of stored models: measured, declared, stated, and where they disagree."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from sqlalchemy import text

import hartonomous as hn
from hartonomous.core.description import Description
from hartonomous.core.digest import digest
from hartonomous.errors import ConflictError, IntegrityError, NotFoundError, UsageError
from hartonomous.operations.add import AddOptions, add
from hartonomous.packs.declared_bases import DeclaredBases
from hartonomous.packs.hints import bases_of
from hartonomous.ports.progress import NoProgress

pytestmark = pytest.mark.usefixtures("catalog_engine")

RANDOM = np.random.default_rng(11)
WEIGHTS = {
    f"model.layers.{i}.mlp.up_proj.weight": RANDOM.standard_normal((64, 96)).astype(np.float32)
    for i in range(4)
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[hn.Store]:
    with hn.open(tmp_path / "store", create=True, settings={"workers": 2}) as opened:
        yield opened


def folder(path: Path, weights: dict[str, np.ndarray], card: str = "") -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 96}))
    save_file(weights, path / "model.safetensors")
    if card:
        (path / "README.md").write_text(f"---\n{card}\n---\nA model.\n")
    return path


def edges(found) -> dict[tuple[str, str], object]:
    return {(edge.source, edge.target): edge for edge in found.edges}


def test_stated_relations(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS)])
    other = {name: RANDOM.standard_normal((64, 96)).astype(np.float32) for name in WEIGHTS}
    store.add([folder(tmp_path / "b", other)])
    dry = store.relate("b", "fine-tune-of", "a", dry_run=True)
    assert dry.dry_run and store.relations() == ()
    done = store.relate("b", "fine-tune-of", "a", weight=0.5, note="told by hand")
    assert done.changed and done.sequence is not None
    again = store.relate("b", "fine-tune-of", "a", weight=0.5, note="told by hand")
    assert not again.changed
    with pytest.raises(ConflictError):
        store.relate("b", "fine-tune-of", "a", note="another")
    (stated,) = store.relations("a")
    assert (stated.source, stated.kind, stated.target) == ("b@1", "fine-tune-of", "a@1")
    assert (stated.weight, stated.note) == (0.5, "told by hand")
    up = store.lineage("b", direction="up")
    (edge,) = up.edges
    assert (edge.source, edge.target, edge.directed) == ("b@1", "a@1", True)
    assert edge.measured is None and edge.declared[0].said_by == "user"
    assert store.lineage("a", direction="up").edges == ()
    assert len(store.lineage("a", direction="down").edges) == 1

    store.undo()
    assert store.relations() == ()
    store.relate("b", "merged-from", "a")
    store.unrelate("b", "merged-from", "a")
    assert store.relations() == ()
    store.undo()
    assert [one.kind for one in store.relations()] == ["merged-from"]


def test_statements_come_back_from_packs_alone(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS)])
    store.add([folder(tmp_path / "b", {**WEIGHTS, "more": np.ones(3, np.float32)})])
    store.relate("b", "fine-tune-of", "a", note="kept in packs", weight=0.25)
    place = store.path
    before = store.relations()
    store.close()
    hn.repair(place)
    with hn.open(place) as again:
        assert again.relations() == before


def test_statements_go_with_a_purged_version(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS)])
    store.add([folder(tmp_path / "b", {**WEIGHTS, "more": np.ones(3, np.float32)})])
    store.relate("b", "fine-tune-of", "a")
    store.rm("a")
    assert store.relations("b") == ()  # not while it is in the trash
    store.gc(trash_days=0)
    assert store.relations() == ()
    assert store.verify().sound


@pytest.mark.parametrize("kind", ["near", "same-tensors", "nonsense"])
def test_what_cannot_be_stated(store: hn.Store, tmp_path: Path, kind: str) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS)])
    with pytest.raises(UsageError):
        store.relate("a", kind, "a")
    with pytest.raises(UsageError, match="itself"):
        store.relate("a", "cast-of", "a")
    for note in ("two\nlines", "ä" * 2001, "\udc80"):
        with pytest.raises(UsageError, match="note"):
            store.relate("a", "cast-of", "a", note=note)
    with pytest.raises(NotFoundError):
        store.unrelate("a", "cast-of", "missing")


def test_equal_tensors_are_measured(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS)])
    renamed = {name.replace("model.", "encoder."): value for name, value in WEIGHTS.items()}
    store.add([folder(tmp_path / "b", renamed)])
    (edge,) = store.lineage("a").edges
    assert not edge.directed and edge.kind == "same-tensors"
    assert edge.measured is not None and edge.measured.equal == pytest.approx(1.0)
    assert store.lineage("a", direction="up").edges == ()


def test_declared_bases_are_shown_and_disagreement_is_said(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "base", WEIGHTS)])
    store.add([folder(tmp_path / "stranger",
                      {name: RANDOM.standard_normal((64, 96)).astype(np.float32)
                       for name in WEIGHTS})])  # fmt: skip
    tuned = {**WEIGHTS, "score.weight": RANDOM.standard_normal((3, 96)).astype(np.float32)}
    store.add([folder(tmp_path / "good", tuned,
                      "base_model: org/base\nbase_model_relation: finetune")])  # fmt: skip
    found = store.lineage("good", direction="up")
    (edge,) = found.edges
    assert (edge.source, edge.target, edge.kind) == ("good@1", "base@1", "fine-tune-of")
    assert edge.measured is not None and edge.measured.equal > 0.9
    assert edge.declared[0].said_by == "model-card"
    assert found.warnings == ()
    assert ("good@1", "base@1") in edges(store.lineage("base", direction="down"))

    lying = {**WEIGHTS, "other.weight": RANDOM.standard_normal((3, 96)).astype(np.float32)}
    store.add([folder(tmp_path / "lying", lying, "base_model: stranger")])
    found = store.lineage("lying")
    assert any("stranger" in text and "no tensor" in text for text in found.warnings)
    absent = {**WEIGHTS, "third.weight": RANDOM.standard_normal((3, 96)).astype(np.float32)}
    store.add([folder(tmp_path / "absent", absent, "base_model: nobody/nothing")])
    assert any("nobody/nothing" in text for text in store.lineage("absent").warnings)


def test_declarations_in_a_circle_end(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS, "base_model: b")])
    store.add([folder(tmp_path / "b", {**WEIGHTS, "x": np.ones(9, np.float32)}, "base_model: a")])
    found = store.lineage("a", depth=32)
    assert {"a@1", "b@1"} == set(found.versions)
    assert len(found.edges) == 1
    (told,) = [one for one in found.warnings if "lead back" in one]
    assert {"a@1", "b@1"} <= set(told.replace(":", "").split())


def test_a_declared_base_that_is_not_here_is_noted_when_it_is_added(
    store: hn.Store, tmp_path: Path
) -> None:
    class Notes(NoProgress):
        def __init__(self) -> None:
            self.told: list[str] = []

        def note(self, text: str) -> None:
            self.told.append(text)

    def noted(path: Path) -> list[str]:
        notes = Notes()
        add(store.parts, [path], options=AddOptions(), progress=notes)
        return [one for one in notes.told if "declares" in one]

    path = folder(tmp_path / "a", WEIGHTS, "base_model: org/gone")
    assert noted(path) == ["a declares 'org/gone' as its base, which is not in this store"]
    assert noted(path) == []  # it is there already
    assert len(noted(folder(tmp_path / "self", {"x": np.ones(9)}, "base_model: self"))) == 1
    assert noted(folder(tmp_path / "b", {"x": np.ones(8)}, "base_model: org/a")) == []
    # Below a folder, where it is the only one of the name; lineage takes it for that as well.
    tree = tmp_path / "tree"
    folder(tree / "root", {"x": np.ones(7)})
    lora = folder(tree / "lora", {"x": np.ones(6)}, "base_model: root")
    assert noted(tree) == []
    assert not any("not in this store" in one for one in store.lineage("tree/lora").warnings)
    folder(tmp_path / "second" / "root", {"x": np.ones(5)})
    assert noted(tmp_path / "second") == []
    again = folder(tmp_path / "c", {"x": np.ones(4)}, "base_model: root")
    assert len(noted(again)) == 1, "two may be meant"
    assert lora.is_dir()


def test_declared_bases_give_the_tensors_of_the_same_name(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "base", WEIGHTS)])
    known = DeclaredBases(store.parts.database)
    name, value = next(iter(WEIGHTS.items()))
    wanted = (digest(value.tobytes()),)
    assert known.atoms(("gone", "org/base"), name) == wanted
    assert known.atoms(("org/base",), f"base_model.model.{name}") == wanted
    assert known.atoms(("org/base",), "other.weight") == known.atoms((), name) == ()


def test_what_files_declare_is_a_hint_and_wrong_ones_cost_nothing(
    tmp_path: Path,
) -> None:
    tuned = {name: value + np.float32(1e-4) for name, value in WEIGHTS.items()}
    stranger = {
        name: RANDOM.standard_normal(value.shape).astype(np.float32)
        for name, value in WEIGHTS.items()
    }
    taken = []
    for said in ("", "base_model: stranger", "base_model: base"):
        with hn.open(tmp_path / f"store{len(taken)}", create=True) as store:
            store.add([folder(tmp_path / str(len(taken)) / "stranger", stranger)])
            store.add([folder(tmp_path / str(len(taken)) / "base", WEIGHTS)])
            path = folder(tmp_path / str(len(taken)) / "tuned", tuned, said)
            store.add([path])
            out = tmp_path / f"out{len(taken)}"
            store.get("tuned", out)
            kept = list(out.rglob("model.safetensors"))
            assert kept[0].read_bytes() == (path / "model.safetensors").read_bytes()
            taken.append([store.explain("tuned", name).stored_bytes for name in WEIGHTS])
    assert taken[0] == taken[1] == taken[2]


@pytest.mark.parametrize(
    ("metadata", "names"),
    [
        ({"base_model": ["org/a", "b"]}, ("org/a", "b")),
        ({"base_model_name_or_path": "org/a", "_name_or_path": "./b"}, ("org/a", "./b")),
        (
            {
                "general.base_model.count": 2, "general.base_model.0.name": "a",
                "general.base_model.0.organization": "org",
                "general.base_model.1.repo_url": "https://somewhere.example/org/b",
            },
            ("org/a", "org/b"),
        ),
        ({"base_model": 3, "general.base_model.count": 2**60, "_name_or_path": []}, ()),
    ],
)  # fmt: skip
def test_which_bases_a_file_names(metadata: dict[str, object], names: tuple[str, ...]) -> None:
    assert bases_of(Description(format="json", metadata=metadata)) == names


def test_a_damaged_statement_is_told(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS)])
    store.add([folder(tmp_path / "b", {"w": WEIGHTS["model.layers.0.mlp.up_proj.weight"] + 1})])
    store.relate("b", "fine-tune-of", "a")
    with store.parts.database.write() as tx:
        tx.execute(text("UPDATE relation SET kind = 'junk' WHERE kind = 'fine-tune-of'"))
    with pytest.raises(IntegrityError, match="a relation has the kind 'junk'"):
        store.lineage("b")


def test_impact(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS)])
    alone = {"w": RANDOM.standard_normal((64, 96)).astype(np.float32)}
    store.add([folder(tmp_path / "b", {**WEIGHTS, **alone})])
    store.label("b", "prod")
    found = store.impact("b")
    assert found.labels == ("prod",) and found.dependents == ()
    assert 0 < found.freed_bytes <= alone["w"].nbytes + 1000
    assert found.shared_bytes > 3 * alone["w"].nbytes * 0.8
    before = store.stats().stored_bytes
    store.rm("b")
    store.gc(trash_days=0)
    assert before - store.stats().stored_bytes >= found.freed_bytes * 0.9


def test_search_tensors(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS)])
    store.add([folder(tmp_path / "b", {"other.up_proj.weight": WEIGHTS[next(iter(WEIGHTS))]})])
    every = store.search_tensors("*up_proj*")
    assert len(every.tensors) == 5 and not every.truncated
    digest = every.tensors[0].digest
    assert digest is not None
    same = store.search_tensors(digest)
    assert {one.name for one in same.tensors} == {"a", "b"}
    assert len(store.search_tensors(digest[:20]).tensors) == 2
    assert len(store.search_tensors("model.layers.[01].*").tensors) == 2
    assert len(store.search_tensors("MODEL.layers.[01].*").tensors) == 2
    last = store.search_tensors("model.layers.[3].*", limit=1)
    assert [one.tensor for one in last.tensors] == ["model.layers.3.mlp.up_proj.weight"]
    assert not last.truncated
    assert store.search_tensors("model.layers.[0-9].*", limit=2).truncated
    assert len(store.search_tensors(shape=(64, 96), dtype="f32").tensors) == 5
    assert store.search_tensors(shape=(64, 97)).tensors == ()
    assert len(store.search_tensors(role="mlp-up", limit=2).tensors) == 2
    assert store.search_tensors(role="mlp-up", limit=2).truncated
    assert store.search_tensors("100%").tensors == ()
    with pytest.raises(UsageError):
        store.search_tensors(role="nonsense")


def test_a_set_in_brackets_is_looked_for_beyond_the_limit(store: hn.Store, tmp_path: Path) -> None:
    names = [f"part.{letter}.w" for letter in "abcdefgh"]
    store.add([folder(tmp_path / "a", {one: np.zeros(3, np.float32) for one in names})])
    found = store.search_tensors("part.[gh].*", limit=1)
    assert [one.tensor for one in found.tensors] == ["part.g.w"]
    assert found.truncated
    found = store.search_tensors("PART.[GH].*", limit=2)
    assert [one.tensor for one in found.tensors] == ["part.g.w", "part.h.w"]
    assert not found.truncated


def test_nearest_tensors(store: hn.Store, tmp_path: Path) -> None:
    store.add([folder(tmp_path / "a", WEIGHTS)])
    name = next(iter(WEIGHTS))
    near = {name: WEIGHTS[name] * np.float32(1.001)}
    store.add([folder(tmp_path / "b", near)])
    found = store.nearest_tensors("b", name)
    assert found[0].used_by == ("a@1",) and found[0].orientation == "straight"
    assert found[0].distance > 0
    with pytest.raises(NotFoundError):
        store.nearest_tensors("b", "missing")


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("first", ["adapter", "merged"])
def test_a_base_that_came_after_its_adapter_and_merge_is_still_the_base(
    store: hn.Store, tmp_path: Path, first: str, declared: bool
) -> None:
    name = "model.layers.0.self_attn.q_proj"
    weight = (RANDOM.standard_normal((512, 512)) * 0.02).astype(np.float32)
    left = (RANDOM.standard_normal((512, 8)) * 0.02).astype(np.float32)
    right = (RANDOM.standard_normal((8, 512)) * 0.02).astype(np.float32)
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    stem = f"base_model.model.{name}"
    save_file(
        {f"{stem}.lora_A.weight": right, f"{stem}.lora_B.weight": left},
        adapter / "adapter_model.safetensors",
    )
    told = {"peft_type": "LORA", "r": 8, "lora_alpha": 16}
    if declared:
        told["base_model_name_or_path"] = "base"
    (adapter / "adapter_config.json").write_text(json.dumps(told))
    sums = weight + np.float32(2) * (left @ right)
    merged = folder(tmp_path / "merged", {f"{name}.weight": sums})
    for one in (adapter, merged) if first == "adapter" else (merged, adapter):
        store.add([one])
    store.add([folder(tmp_path / "base", {f"{name}.weight": weight})])
    found = store.lineage("base")
    edge = edges(found)["adapter@1", "base@1"]
    assert edge.measured.merged > 0  # the base is kept as the merge less the adapter
    assert (edge.kind, edge.directed) == ("adapter-of", True)
    edge = edges(found)["merged@1", "base@1"]
    assert (edge.kind, edge.directed) == ("merged-from", True)
    assert edge.measured.reason == "less an adapter it fits"
    assert set(edges(store.lineage("merged", direction="up"))) == {("merged@1", "base@1")}
    assert found.warnings == ()
