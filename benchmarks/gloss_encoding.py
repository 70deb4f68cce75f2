"""Encodes the definitions of WordNet with the model of the demo's wheel; needs torch, transformers.

    python gloss_encoding.py FOLDER_OF_WORDNET MODEL OUT.npy

Writes float32 rows of unit length, mean of the tokens, in the order of the sorted definitions, each
once. Parts are kept beside ``OUT.npy`` until it is whole: run it again after an interruption.
"""

import sys
from pathlib import Path

_PART = 4096
_TOKENS = 256


def definitions(folder: Path) -> list[str]:
    """Return every definition of WordNet's data files once, sorted."""
    found: set[str] = set()
    for name in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{name}").read_text(encoding="utf-8").splitlines():
            if not line.startswith("  "):  # the licence
                found.add(line.split("|", 1)[1].strip())
    return sorted(found)


def main() -> None:
    """Encode, part by part."""
    import numpy as np
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder, model_folder, out = (Path(one) for one in sys.argv[1:])
    texts = definitions(folder)
    order = sorted(range(len(texts)), key=lambda at: len(texts[at]))  # little padding
    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModel.from_pretrained(model_folder).eval()
    parts = [order[at : at + _PART] for at in range(0, len(order), _PART)]
    names = [out.with_suffix(f".{number}.npy") for number in range(len(parts))]
    for part, name in zip(parts, names, strict=True):
        if name.exists():
            continue
        rows = []
        for at in range(0, len(part), 64):
            batch = tokenizer([texts[one] for one in part[at : at + 64]], padding=True,
                              truncation=True, max_length=_TOKENS, return_tensors="pt")  # fmt: skip
            with torch.inference_mode():
                hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).float()
            mean = (hidden * mask).sum(1) / mask.sum(1)
            rows.append(torch.nn.functional.normalize(mean).numpy())
        beside = name.with_suffix(".tmp.npy")
        np.save(beside, np.concatenate(rows))
        beside.replace(name)
    encoded = np.concatenate([np.load(name) for name in names])
    whole = np.empty_like(encoded)
    whole[np.array(order)] = encoded
    np.save(out, whole)
    for name in names:
        name.unlink()


if __name__ == "__main__":
    main()
