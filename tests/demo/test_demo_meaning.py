"""The demo's notes and question: no word in common, and what has to be installed."""

from importlib.util import find_spec

from hartonomous.core.likeness import alike
from hartonomous.core.terms import terms
from hartonomous.operations import demo_meaning
from hartonomous.operations.demo_meaning import ANSWER, NOTES, QUESTION, missing_extras, write_notes


def test_no_word_of_the_question_or_one_like_it_is_in_a_note():
    asked = terms(QUESTION)
    said = sorted({term for text in NOTES.values() for term in terms(text)})
    assert not set(asked) & set(said)
    assert {term: alike(term, said) for term in asked} == {term: [] for term in asked}
    assert ANSWER in NOTES


def test_the_notes_are_written_as_they_are(tmp_path):
    folder = write_notes(tmp_path / "notes")
    assert {one.name: one.read_text() for one in folder.iterdir()} == {
        name: f"{text}\n" for name, text in NOTES.items()
    }


def test_each_missing_package_names_its_extra_once(monkeypatch):
    assert missing_extras() == ()
    absent = {"onnxruntime"}
    monkeypatch.setattr(
        demo_meaning, "find_spec", lambda name: None if name in absent else find_spec(name)
    )
    assert missing_extras() == ("encode",)
    absent.add("tokenizers")
    assert missing_extras() == ("encode",)
