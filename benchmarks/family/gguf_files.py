"""GGUF files by llama.cpp's own converter, importance matrix and quantiser."""

import os
import subprocess
import sys
from pathlib import Path

from family.recipes import Making
from family.text import text_of


class ToolError(Exception):
    """A program of llama.cpp failed; says what it said last."""


def converted(making: Making) -> None:
    """Run ``convert_hf_to_gguf.py``; sources are llama.cpp and a model folder."""
    llama_cpp, model = making.sources
    _run([
        sys.executable, str(llama_cpp / "convert_hf_to_gguf.py"), str(model),
        "--outfile", str(making.target), "--outtype", making.parameters["outtype"],
        "--model-name", making.parameters["model_name"],
    ])  # fmt: skip


def importance(making: Making) -> None:
    """Run ``llama-imatrix`` on ``chunks`` pieces of text; sources are llama.cpp and a GGUF."""
    llama_cpp, model = making.sources
    text = making.target.with_name("text.txt")
    text.write_text(text_of(llama_cpp, making.parameters["text"])[:400_000], encoding="utf-8")
    _run([
        str(llama_cpp / "build/bin/llama-imatrix"), "-m", str(model), "-f", str(text),
        "-o", str(making.target), "-t", "2", "-c", "128", "-b", "128",
        "--chunks", str(making.parameters["chunks"]), "--no-ppl",
    ])  # fmt: skip
    text.unlink()


def quantised(making: Making) -> None:
    """Run ``llama-quantize``; sources are llama.cpp, a GGUF and perhaps an importance matrix.

    The program writes the matrix's path into the file, so it runs where the path is short and the
    same everywhere.
    """
    llama_cpp, model, *matrix = making.sources
    command = [str(llama_cpp / "build/bin/llama-quantize")]
    scratch = making.target.parent
    if matrix:
        (scratch / "imatrix.gguf").symlink_to(matrix[0])
        command += ["--imatrix", "imatrix.gguf"]
    _run([*command, str(model), making.target.name, making.parameters["type"], "2"], cwd=scratch)
    (scratch / "imatrix.gguf").unlink(missing_ok=True)


def _run(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, errors="replace",
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        said = (done.stderr + done.stdout).strip().splitlines()[-5:]
        raise ToolError(f"{Path(command[0]).name} ended with {done.returncode}: {' | '.join(said)}")
