"""Encoders run from a store: their vectors are those of transformers, whatever the layout."""

import os
import shutil
import signal

import numpy as np
import pytest

import hartonomous as hn
from hartonomous.core.space import RECIPE_KEY, check_comparable
from hartonomous.errors import (
    AmbiguousNameError,
    ConflictError,
    HartonomousError,
    NotFoundError,
    UsageError,
)
from hartonomous.packs.encoders import open_encoder_of

SENTENCES = ["bert", "distilbert", "roberta", "xlm-roberta", "mpnet"]


def pictures():
    """The pictures of ``tests/fixtures/encoders/make.py``."""
    found = []
    for number, (height, width) in enumerate([(64, 64), (50, 91), (120, 37), (20, 24)]):
        rows, columns = np.mgrid[0:height, 0:width]
        picture = np.stack(
            [
                rows * 255 // height,
                columns * 255 // width,
                (rows * 7 + columns * 13 * (number + 1)) % 256,
            ],
            axis=2,
        )
        found.append(picture.astype(np.uint8))
    return found


@pytest.mark.parametrize("name", SENTENCES)
def test_vectors_are_those_of_transformers(store, fixtures, expected, name):
    shown = store.encoders.add(fixtures / name)
    assert shown.changed and shown.name == name and shown.quantisation == "f32"
    encoder = store.encoders.get(name)
    try:
        texts = expected["texts"]
        for kind, wanted in expected[name].items():
            found = encoder.encode_texts(texts, query=kind == "queries")
            assert np.abs(found - np.array(wanted, np.float32)).max() < 1e-4
            assert found.dtype == np.float32
        # A text's vector does not depend on those beside it.
        alone = np.concatenate([encoder.encode_texts([text]) for text in texts])
        assert np.abs(alone - encoder.encode_texts(texts)).max() < 1e-5
        assert encoder.space("text").dimension == found.shape[1]
        assert encoder.encode_texts([]).shape == (0, found.shape[1])
    finally:
        encoder.close()


@pytest.mark.parametrize("quantisation", ["f32", "int8"])
def test_dense_layers_stand_behind_the_pooling(store, fixtures, expected, tmp_path, quantisation):
    place = tmp_path / "dense"
    for name in ("bert", "dense"):
        shutil.copytree(fixtures / name, place, dirs_exist_ok=True)
    shown = store.encoders.add(place, name="made", quantisation=quantisation)
    assert shown.dimensions == {"text": 20}
    assert {"2_Dense/model.safetensors", "3_Dense/config.json"} < set(shown.files)
    encoder = store.encoders.get("made")
    found = encoder.encode_texts(expected["texts"])
    encoder.close()
    wanted = np.array(expected["dense"]["passages"], np.float32)
    if quantisation == "f32":
        assert np.abs(found - wanted).max() < 1e-4
    else:  # the layers themselves stay in f32
        assert ((found * wanted).sum(axis=1) > 0.95).all()
    plain = store.encoders.add(fixtures / "bert")
    assert plain.digest != shown.digest and plain.dimensions == {"text": 32}


def test_a_graph_gives_what_its_weights_give(store, fixtures, expected):
    shown = store.encoders.add(fixtures / "graph")
    assert "onnx/model.onnx" in shown.files
    encoder = store.encoders.get("graph")
    found = encoder.encode_texts(expected["texts"])
    encoder.close()
    assert np.abs(found - np.array(expected["bert"]["passages"])).max() < 1e-4


@pytest.mark.parametrize("name", SENTENCES)
def test_int8_is_another_space_and_near(store, fixtures, expected, name):
    store.encoders.add(fixtures / name)
    shown = store.encoders.add(name, quantisation="int8")
    assert shown.name == f"{name}-int8" and shown.version == f"{name}@1"
    assert [one.name for one in store.encoders.ls()] == [name, f"{name}-int8"]
    texts = expected["texts"]
    vectors, spaces = [], []
    for one in (name, f"{name}-int8"):
        encoder = store.encoders.get(one)
        vectors.append(encoder.encode_texts(texts))
        spaces.append(encoder.space("text"))
        alone = encoder.encode_texts(texts[:1])
        assert np.abs(alone - vectors[-1][:1]).max() < 1e-5
        encoder.close()
    first, second = (one / np.linalg.norm(one, axis=1, keepdims=True) for one in vectors)
    assert ((first * second).sum(axis=1) > 0.95).all()
    assert np.abs(first - second).max() > 1e-5
    with pytest.raises(UsageError, match=r"f32.*int8"):
        check_comparable(*spaces)


@pytest.mark.parametrize(("name", "dimension"), [("clip", 24), ("siglip", 32)])
def test_two_towers_give_vectors_that_may_be_compared(store, fixtures, expected, name, dimension):
    shown = store.encoders.add(fixtures / name, name="looks")
    assert shown.modalities == ("text", "picture") and shown.dimensions == {
        "text": dimension, "picture": dimension,
    }  # fmt: skip
    encoder = store.encoders.get("looks")
    try:
        texts = encoder.encode_texts(expected["texts"])
        seen = encoder.encode_pictures(pictures())
        assert np.abs(texts - np.array(expected[name]["passages"])).max() < 1e-4
        assert np.abs(seen - np.array(expected[name]["pictures"])).max() < 1e-4
        first, second = encoder.space("text"), encoder.space("picture")
        check_comparable(first, second)
        assert first.key != second.key and first.family == second.family != ""
        for wrong in (
            np.zeros((4, 4), np.uint8),
            np.zeros((4, 4, 3)),
            np.zeros((0, 4, 3), np.uint8),
        ):
            with pytest.raises(UsageError, match="a picture is uint8"):
                encoder.encode_pictures([wrong])
        thin = np.full((3, 4000, 3), 7, np.uint8)
        assert np.isfinite(encoder.encode_pictures([thin])).all()
    finally:
        encoder.close()
    with pytest.raises(UsageError, match="is closed"):
        encoder.encode_texts(["x"])


def test_an_encoder_of_texts_takes_no_pictures(store, fixtures):
    store.encoders.add(fixtures / "bert")
    encoder = store.encoders.get("bert")
    with pytest.raises(UsageError, match="takes no picture"):
        encoder.encode_pictures(pictures())
    with pytest.raises(UsageError, match="takes no picture"):
        encoder.space("picture")
    encoder.close()


def test_the_mark_outlives_renaming_and_repair(store, fixtures, expected, tmp_path):
    store.encoders.add(fixtures / "bert")
    encoder = store.encoders.get("bert")
    space = encoder.space("text")
    encoder.close()
    store.mv("bert", "renamed/model")
    assert store.encoders.ls()[0].version == "renamed/model@1"
    again = store.encoders.get("bert")
    assert again.space("text") == space
    again.close()
    path = store.path
    store.close()
    hn.repair(path)
    with hn.open(path) as mended:
        shown = mended.encoders.show("bert", check=True)
        assert shown.same_results and shown.probe_difference < 1e-4
        found = open_encoder_of(mended.parts, mended.files, space)
        vectors = found.encode_texts(expected["texts"])
        found.close()
    assert np.abs(vectors - np.array(expected["bert"]["passages"])).max() < 1e-4


def test_adding_again_and_removing(store, fixtures):
    first = store.encoders.add(fixtures / "bert", name="small")
    again = store.encoders.add(fixtures / "bert", name="small")
    assert (first.changed, again.changed) == (True, False)
    assert first.digest == again.digest and store.ls().__len__() == 1
    gone = store.encoders.rm("small", dry_run=True)
    assert gone.dry_run and len(store.encoders.ls()) == 1
    assert store.encoders.rm("small").changed
    assert store.encoders.ls() == ()
    assert store.show("small").name == "small"
    with pytest.raises(NotFoundError, match=r"small@1 is no encoder"):
        store.encoders.get("small")
    with pytest.raises(NotFoundError, match="no encoder 'other'"):
        store.encoders.show("other")


def test_names_are_taken_once(store, fixtures):
    store.encoders.add(fixtures / "bert")
    store.encoders.add("bert", quantisation="int8", name="quick")
    store.add(fixtures / "roberta", name="other")
    with pytest.raises(ConflictError, match="there is an encoder quick already, of bert@1"):
        store.encoders.add("other", name="quick")
    store.encoders.rm("bert")
    store.encoders.add("bert", name="plain")
    with pytest.raises(AmbiguousNameError, match="has 2 encoders"):
        store.encoders.get("bert@1")


def test_a_dry_run_stores_nothing(store, fixtures):
    shown = store.encoders.add(fixtures / "clip", dry_run=True)
    assert shown.dry_run and shown.modalities == ("text", "picture")
    assert list(store.ls()) == []
    store.add(fixtures / "bert", name="stored")
    assert store.encoders.add("stored", dry_run=True).max_tokens == 32
    assert store.encoders.ls() == ()


def test_what_anybody_writes_into_the_metadata_is_no_encoder(store, fixtures):
    for number, value in enumerate(["no json", "[]", '[{"name": 3}]', "{}"]):
        store.add(fixtures / "bert", name=f"model{number}", metadata={RECIPE_KEY: value})
    assert store.encoders.ls() == ()


def test_changed_files_are_no_longer_that_encoder(store, fixtures):
    store.encoders.add(fixtures / "bert")
    (value,) = [one for key, one in store.show("bert").metadata.items() if key == RECIPE_KEY]
    store.add(fixtures / "roberta", name="forged", metadata={
        RECIPE_KEY: value.replace('"name":"bert"', '"name":"forged"')
    })  # fmt: skip
    with pytest.raises(UsageError, match="read otherwise than when it was added"):
        store.encoders.get("forged")


def test_a_killed_process_is_replaced(store, fixtures, expected):
    store.encoders.add(fixtures / "bert")
    encoder = store.encoders.get("bert")
    try:
        first = encoder.encode_texts(expected["texts"])
        process = encoder._processes["text"]
        os.kill(process._child._process.pid, signal.SIGKILL)
        assert (encoder.encode_texts(expected["texts"]) == first).all()
    finally:
        encoder.close()


def test_the_process_ends_with_the_encoder(store, fixtures):
    store.encoders.add(fixtures / "bert")
    encoder = store.encoders.get("bert")
    encoder.encode_texts(["a"])
    pid = encoder._processes["text"]._child._process.pid
    encoder.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_long_and_strange_texts(store, fixtures):
    store.encoders.add(fixtures / "bert")
    encoder = store.encoders.get("bert")
    texts = ["x" * 300_000, "\x00\ud7ff\U0010ffff", "a b " * 60_000, "\n\t "]
    found = encoder.encode_texts(texts)
    encoder.close()
    assert found.shape == (4, 32) and np.isfinite(found).all()


def test_errors_of_the_process_leave_the_encoder_usable(store, fixtures):
    """A text that msgpack cannot carry fails alone."""
    store.encoders.add(fixtures / "bert")
    encoder = store.encoders.get("bert")
    try:
        with pytest.raises((HartonomousError, UnicodeEncodeError)):
            encoder.encode_texts(["\ud800"])
        assert encoder.encode_texts(["fine"]).shape == (1, 32)
    finally:
        encoder.close()
