"""Builds the C kernel where there is a compiler; everything else is in pyproject.toml.

Without one (or with CC=/bin/false) the installation succeeds and numpy does the same work, slower.
"""

import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent / "native"))
import build

# A free-threaded Python has no stable ABI yet: its wheel is for that version alone.
abi3 = not sysconfig.get_config_var("Py_GIL_DISABLED")
kernel = Extension(
    "hartonomous.codecs._kernel",
    sources=[f"native/{name}" for name in (*build.SOURCES, "module.c")],
    depends=[f"native/{name}" for name in build.HEADERS],
    include_dirs=["native"],
    extra_compile_args=[*build.DIALECT, *build.OPTIMISED, *build.module_flags()],
    extra_link_args=["-s"],
    py_limited_api=abi3,
    optional=True,
)


class BuildKernel(build_ext):
    """Leaves out the library paths of the Python that builds: they mean nothing elsewhere."""

    def build_extensions(self) -> None:
        """Build, with what is left of the linker's command."""
        linker = getattr(self.compiler, "linker_so", None)
        if linker:
            self.compiler.linker_so = [one for one in linker if not one.startswith("-Wl,-rpath")]
        super().build_extensions()


setup(
    ext_modules=[kernel],
    cmdclass={"build_ext": BuildKernel},
    options={"bdist_wheel": {"py_limited_api": "cp311"}} if abi3 else {},
)
