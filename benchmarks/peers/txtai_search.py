"""Searches the frozen questions with txtai; runs in an environment that has it.

    python txtai_search.py MODEL_FOLDER FIXTURES

Prints one line of JSON: the version, and for each question the rank of its entry by txtai's vectors
and by its hybrid of words and vectors, 0 where it was not found.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path


def main(model: str, fixtures: Path) -> None:
    """Index the entries both ways, and ask."""
    from txtai import Embeddings

    text = (fixtures / "entries.md").read_text(encoding="utf-8")
    entries = [one.partition("\n\n") for one in text.split("\n## ")[1:]]
    rows = [(head, f"{head}\n{body.strip()}", None) for head, _, body in entries]
    questions = [json.loads(line) for line in
                 (fixtures / "questions.jsonl").read_text("utf-8").splitlines()]  # fmt: skip
    ranks: list[dict[str, int]] = [{} for _ in questions]
    for method, options in (("vectors", {}), ("hybrid", {"hybrid": True})):
        index = Embeddings({"path": model, "method": "transformers", **options})
        index.index(rows)
        # All at once: one query at a time takes minutes, and finds the same.
        every = index.batchsearch([one["text"] for one in questions], len(rows))
        for found, one, hits in zip(ranks, questions, every, strict=True):
            order = [uid for uid, _ in hits]
            found[method] = order.index(one["answer"]) + 1 if one["answer"] in order else 0
    print(json.dumps({"version": version("txtai"), "ranks": ranks}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
