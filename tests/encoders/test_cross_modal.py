"""Words find pictures and pictures find words, on both engines, as transformers' models would.

The expected vectors and SigLIP's probabilities are those of ``tests/fixtures/encoders/make.py``.
"""

import numpy as np
import pytest
from PIL import Image
from test_stored_encoders import pictures

from hartonomous.operations.search import SearchFilter

PICTURES = SearchFilter(kinds=("picture",))
PASSAGES = SearchFilter(kinds=("passage",))
QUERIES = (0, 1, 2)
WORDED = (*QUERIES, 4)
"""Which of the texts of the fixtures have words; the last has more than a search takes."""


@pytest.fixture
def folder(tmp_path, expected):
    """The pictures and the texts of the fixtures as files."""
    made = tmp_path / "files"
    made.mkdir()
    for number, one in enumerate(pictures()):
        Image.fromarray(one).save(made / f"{number}.png")
    for number in WORDED:
        (made / f"{number}.txt").write_text(expected["texts"][number], encoding="utf-8")
    return made


def scores(found, order):
    """Return each file's score, having seen that the hits stand in their order."""
    listed = [one.scores[order] for one in found.hits]
    assert listed == sorted(listed, reverse=True)
    return dict(zip((one.name for one in found.hits), listed, strict=True))


@pytest.mark.parametrize(
    ("catalog_engine", "model"),
    [("sqlite", "clip"), ("sqlite", "siglip"), ("postgresql", "siglip")],
    indirect=["catalog_engine"],
)
def test_words_and_pictures_find_each_other(
    catalog_engine, store, fixtures, folder, expected, model
):
    for path in sorted(folder.iterdir()):
        store.add(path, name=path.name)
    store.encoders.add(fixtures / model)
    for modality in ("text", "picture"):
        store.embed(encoder=model, modality=modality)
    named = {one.name: one.modality for one in store.spaces.list()}
    assert named == {model: "text", f"{model}-picture": "picture"}
    texts, held = expected["texts"], expected[model]
    cosines = np.array(held["passages"]) @ np.array(held["pictures"]).T
    seen = [{f"{at}.png": one for at, one in enumerate(row)} for row in cosines.tolist()]
    read = [{f"{at}.txt": column[at] for at in WORDED} for column in cosines.T.tolist()]

    for number in QUERIES:  # words find pictures
        found = store.search(texts[number], where=PICTURES)
        assert scores(found, "pictures") == pytest.approx(seen[number], abs=1e-3)
        alone = store.search(texts[number], modality="picture", top_k=1)
        assert [one.name for one in alone.hits] == [found.hits[0].name]
        # SigLIP's heads give sigmoid(scale x cosine + bias) of each pair: the same order.
        if model == "siglip":
            chances = np.array(held["probabilities"][number])
            assert len(set(chances.tolist())) == len(chances)
            assert [one.name for one in found.hits] == [f"{at}.png" for at in np.argsort(-chances)]
    for number in range(len(cosines.T)):  # pictures find words, on the disk and in the store
        for like in (str(folder / f"{number}.png"), f"{number}.png"):
            found = store.search(like=like, where=PASSAGES)
            assert scores(found, "meaning") == pytest.approx(read[number], abs=1e-3)
    found = store.search(like="1.txt", where=PICTURES)  # and so does a stored text
    assert scores(found, "pictures") == pytest.approx(seen[1], abs=1e-3)


def test_what_fills_a_text_up_counts_in_siglips_vectors(store, fixtures, expected):
    """There is no mask: the vector of a text that is not filled up is another one."""
    store.encoders.add(fixtures / "siglip")
    encoder = store.encoders.get("siglip")
    try:
        found = encoder.encode_texts(expected["texts"])
        alone = np.concatenate([encoder.encode_texts([one]) for one in expected["texts"]])
    finally:
        encoder.close()
    held = expected["siglip"]
    assert np.abs(found - np.array(held["passages"])).max() < 1e-4
    assert np.abs(alone - found).max() < 1e-5
    apart = np.abs(found - np.array(held["passages_not_filled_up"])).max(axis=1)
    assert (apart[[1, 3]] > 0.05).all()  # the others are as long as the model takes
