"""Completion in a real bash, whose words end at : = and @ too."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import hartonomous as hn

SPLIT = re.compile(r"""(?:[^\s:=@"'\\]|\\.|"[^"]*"?|'[^']*'?)+|[:=@]+""")


@pytest.fixture
def complete(hart, store, sources, home):
    """Complete a line in bash as readline would ask for it; return what is offered."""
    with hn.open(store) as opened:
        opened.add(sources / "a.gguf", name="llama3:8b")
        opened.add(sources / "tiny", name="llama3:70b", labels=["prod", "best"])
        opened.add(sources / "x.npy", name="org/two words:tag")
        opened.add(sources / "x.npy", name="mail@home")
    shim = home / "hart"
    shim.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m hartonomous "$@"\n')
    shim.chmod(0o755)
    script = home / "completions.sh"
    script.write_text(hart("completions", "bash")[1])

    def ask(line: str) -> list[str]:
        words = [found.group() for found in SPLIT.finditer(line)]
        if line[-1].isspace():
            words.append("")
        asked = (
            f"set -u; . {script}; COMP_WORDS=({' '.join(map(shlex.quote, words))});"
            f" COMP_CWORD={len(words) - 1}; COMP_LINE={shlex.quote(line)};"
            f" COMP_POINT={len(line)}; COMPREPLY=(); _hart_completion {shim};"
            " printf '%s\\n' ${COMPREPLY[@]+\"${COMPREPLY[@]}\"}"
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", asked], capture_output=True, text=True, check=True, timeout=120
        )
        assert done.stderr == ""
        return done.stdout.split("\n")[:-1] if done.stdout.strip() else []

    return ask


OFFERED = [
    ("hart show lla", ["llama3:70b", "llama3:8b"]),
    ("hart show llama3:", ["70b", "8b"]),
    ("hart show llama3:7", ["70b"]),
    ("hart get 'llama3:7", ["llama3:70b"]),
    ("hart show llama3:70b@", ["best", "prod", "1"]),
    ("hart show llama3:70b@p", ["prod"]),
    ("hart show mail@", ["home"]),
    ("hart show org/two\\ words:", ["tag"]),
    ("hart rm llama3:8b llama3:7", ["70b"]),
    ("hart diff llama3:8b llama3:70", ["70b"]),
    ("hart diff llama3:8b@1 mai", ["mail@home"]),
    ("hart diff ./no", []),
    ("hart cat llama3:8b ", ["blk.0.attn_q.weight"]),
    ("hart cat llama3:70b model.layers.1.m", ["model.layers.1.mlp.up_proj.weight"]),
    ("hart explain llama3:8b blk", ["blk.0.attn_q.weight"]),
    ("hart label llama3:70b ", ["best", "prod"]),
    ("hart label llama3:8b p", ["prod"]),
    ("hart label --remove llama3:8b p", []),
    ("hart ls --set cache_", ["cache_bytes=", "cache_keep_hours="]),
    ("hart ls --set progress=", ["auto", "plain", "none"]),
    ("hart ls --set=progress=p", ["plain"]),
    ("hart --progress pl", ["plain"]),
    ("hart l", ["ls", "label", "log", "lineage"]),
]


def test_what_is_offered(complete):
    assert [(line, complete(line)) for line, _ in OFFERED] == OFFERED


def test_files_are_left_to_the_shell(hart):
    assert "compopt -o default" in hart("completions", "bash")[1]


def test_the_script_is_bash(hart, tmp_path):
    path = Path(tmp_path / "script")
    path.write_text(hart("completions", "bash")[1])
    done = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "complete -" in path.read_text()
