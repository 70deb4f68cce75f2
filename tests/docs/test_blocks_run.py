"""The commands and programs in the documents run as they stand there, in the order of each page."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from markdown_blocks import DOCUMENTS, ROOT, RUN, SHOWN, Block, blocks_of
from safetensors.numpy import save_file

from hartonomous.cli.commands import COMMANDS

_MOST_NOT_RUN = 4
_GGUF = ROOT / "tests" / "fixtures" / "quants" / "mini.Q8_0.gguf"
_PICTURES = ROOT / "tests" / "fixtures" / "pictures"
BLOCKS = [block for path in DOCUMENTS for block in blocks_of(path)]
PAGES = [path for path in DOCUMENTS if any(one.language in RUN for one in blocks_of(path))]


def write_samples(folder):
    """Write the files that the pages speak of."""
    random = np.random.default_rng(5)
    tensors = {
        "encoder.weight": random.standard_normal((64, 32), dtype=np.float32),
        "encoder.bias": random.standard_normal(32, dtype=np.float32),
        "head.weight": random.standard_normal((8, 64), dtype=np.float32),
    }
    (folder / "my-model").mkdir()
    (folder / "downloads").mkdir()
    save_file(tensors, folder / "model.safetensors")
    save_file(tensors, folder / "my-model" / "model.safetensors")
    (folder / "my-model" / "config.json").write_text('{"model_type": "bert"}')
    save_file(
        tensors | {"head.weight": tensors["head.weight"] + 0.01}, folder / "tuned.safetensors"
    )
    shutil.copytree(ROOT / "tests" / "fixtures" / "encoders" / "bert", folder / "small-encoder")
    for name in ("documents", "holiday"):
        (folder / name).mkdir()
    (folder / "documents" / "pump.md").write_text("# Pumps\n\nThe pump rattles loudly.\n")
    for name in ("photo.jpg", "beach.jpg", "documents/photo.jpg", "holiday/sea.jpg"):
        shutil.copyfile(_PICTURES / "scene.jpg", folder / name)
    shutil.copyfile(_PICTURES / "report.docx", folder / "report.docx")
    np.save(folder / "weights.npy", tensors["encoder.weight"])
    shutil.copyfile(_GGUF, folder / "downloads" / "mini.Q8_0.gguf")
    (folder / "downloads" / "notes.txt").write_text("What came from where.\n" * 20)


@pytest.fixture
def environment(tmp_path):
    """A user's environment: an empty home, and ``hart`` and ``python`` on the path."""
    programs, home = tmp_path / "bin", tmp_path / "home"
    programs.mkdir()
    home.mkdir()
    for name, arguments in {"hart": "-m hartonomous", "python": ""}.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        program.chmod(0o755)
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("HARTONOMOUS_")
    }
    path = f"{programs}{os.pathsep}{kept['PATH']}"
    return kept | {"PATH": path, "HOME": str(home), "PYTHONPATH": str(ROOT / "src")}


def script_of(block: Block) -> str:
    """Return the block as shell, so that what one block exports holds in the next."""
    if block.language == "sh":
        return block.code
    return f"python - <<'END OF BLOCK'\n{block.code}END OF BLOCK\n"


def is_run(block: Block) -> bool:
    """Say whether a block is to be run; one that needs a command is, once there is the command."""
    if block.language not in RUN or block.word == "not run":
        return False
    return block.word != "needs" or block.text.removeprefix("hart ") in COMMANDS


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_the_blocks_of_a_page_run(page, tmp_path, environment):
    work = tmp_path / "work"
    work.mkdir()
    write_samples(work)
    blocks = [block for block in blocks_of(page) if is_run(block)]
    script = "".join(f"echo '-- line {one.line}' >&2\n{script_of(one)}" for one in blocks)
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", script],
        cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{page.name}:\n{done.stdout}\n{done.stderr}"


def test_every_block_says_its_language():
    strange = [f"{one.document}:{one.line}" for one in BLOCKS if one.language not in RUN + SHOWN]
    assert strange == []


def test_few_blocks_are_not_run():
    assert len([one for one in BLOCKS if one.word == "not run"]) <= _MOST_NOT_RUN


def test_every_fence_was_found():
    for path in DOCUMENTS:
        fences = sum(
            line.startswith("```") for line in path.read_text(encoding="utf-8").splitlines()
        )
        assert fences == 2 * len(blocks_of(path)), path
