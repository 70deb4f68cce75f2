"""Builds the C kernel without installing: ``python native/build.py`` puts it into src.

``pip install`` does the same through setup.py; this is for a working copy that is run from its
folder, for the fuzz harness, and for other machines' binaries. Needs a C compiler: ``CC``, else cc.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
SOURCES = (
    "casts.c", "delta.c", "delta_decode.c", "fields.c", "quantised.c", "quantised_search.c",
    "quantised_values.c", "rans.c", "rans_avx2.c", "rans_neon.c", "rounded.c", "signs.c",
)  # fmt: skip
HEADERS = (
    "blocks.h", "casts.h", "codes.h", "delta.h", "delta_frames.h", "differences.h", "fields.h",
    "halves.h", "module.h", "planes.h", "quantised.h", "quantised_binding.h", "quantised_search.h",
    "rans.h", "rounded.h", "signs.h",
)  # fmt: skip
BINDINGS = ("delta_module.c", "module.c", "quantised_binding.c", "signs_binding.c")
MODULE = NATIVE.parent / "src" / "hartonomous" / "codecs" / "_kernel.abi3.so"
DIALECT = ("-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion")
OPTIMISED = ("-O3", "-fno-strict-aliasing", "-ffp-contract=off", "-fno-math-errno", "-DNDEBUG")
SANITIZED = (
    "-O1", "-g", "-ffp-contract=off", "-fno-math-errno", "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)  # fmt: skip


def identity() -> str:
    """Return a digest of the sources, which a built kernel carries to say what it was made of."""
    content = b"".join((NATIVE / name).read_bytes() for name in (*SOURCES, *HEADERS, *BINDINGS))
    return hashlib.sha256(content).hexdigest()[:16]


def compiler() -> list[str]:
    """Return the C compiler's command."""
    return os.environ.get("CC", "cc").split()


def compile_program(
    out: Path, *sources: Path, command: list[str] | None = None, flags: tuple[str, ...] = OPTIMISED
) -> None:
    """Compile the kernel with further sources to a program or library at ``out``."""
    kernel = [NATIVE / name for name in SOURCES]
    words = [*(command or compiler()), *DIALECT, f"-I{NATIVE}", *flags, *kernel, *sources]
    subprocess.run([*map(str, words), "-o", str(out)], check=True)


def module_flags() -> tuple[str, ...]:
    """Return what the extension module needs beside the kernel's own flags."""
    return "-fvisibility=hidden", f'-DKERNEL_IDENTITY="{identity()}"'


def build_module(out: Path = MODULE) -> Path:
    """Build the extension module; whoever has the old one loaded keeps it."""
    draft = out.with_name(f".{os.getpid()}.{out.name}")
    headers = f"-I{sysconfig.get_paths()['include']}"
    try:
        compile_program(
            draft, *(NATIVE / name for name in BINDINGS),
            flags=(*OPTIMISED, *module_flags(), headers, "-fPIC", "-shared", "-s"),
        )  # fmt: skip
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return out


def build_frames(
    out: Path, *, command: list[str] | None = None, flags: tuple[str, ...] = OPTIMISED
) -> Path:
    """Build the program around the kernel, fuzz/frames.c; with other ``flags``, sanitizers."""
    compile_program(out, NATIVE / "fuzz" / "frames.c", command=command, flags=flags)
    return out


def main() -> None:
    """Build the module in place."""
    if shutil.which(compiler()[0]) is None:
        sys.exit(f"no C compiler: {compiler()[0]} was not found; set CC")
    print(build_module())


if __name__ == "__main__":
    main()
