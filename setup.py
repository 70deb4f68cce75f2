"""Builds the C kernel where there is a compiler; everything else is in pyproject.toml.

Without one (or with CC=/bin/false) the installation succeeds and numpy does the same work, slower.
"""

import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

sys.path.insert(0, str(Path(__file__).parent / "native"))
import build

# A free-threaded Python has no stable ABI yet: its wheel is for that version alone.
abi3 = not sysconfig.get_config_var("Py_GIL_DISABLED")
kernel = Extension(
    "hartonomous.codecs._kernel",
    sources=[f"native/{name}" for name in (*build.SOURCES, *build.BINDINGS)],
    depends=[f"native/{name}" for name in build.HEADERS],
    include_dirs=["native"],
    extra_compile_args=[*build.DIALECT, *build.OPTIMISED, *build.module_flags()],
    extra_link_args=["-s"],
    py_limited_api=abi3,
    optional=True,
)

setup(ext_modules=[kernel], options={"bdist_wheel": {"py_limited_api": "cp311"}} if abi3 else {})
