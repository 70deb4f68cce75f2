"""Asserts that wheel and source distribution carry what the program needs beside its modules.

package_content.py WHEEL SDIST [WHEEL BUILT WITHOUT A COMPILER]
"""

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FORMATS = sorted((ROOT / "docs").glob("format*.md"))
NEEDED = {
    **{f"packs/{path.stem.upper()}.md": path for path in FORMATS},
    "packs/rescue.py": ROOT / "src" / "hartonomous" / "packs" / "rescue.py",
    "py.typed": ROOT / "src" / "hartonomous" / "py.typed",
}
MIGRATIONS = ROOT / "src" / "hartonomous" / "catalog" / "migrations"
NEEDED |= {
    f"catalog/migrations/{path.relative_to(MIGRATIONS)}": path for path in MIGRATIONS.rglob("*.py")
}


KERNEL = "hartonomous/codecs/_kernel"
SOURCES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("native/**/*.[ch]"))


def main(wheel: str, sdist: str, plain_wheel: str) -> None:
    """Compare each needed file in both archives with the working copy."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        strangers = [name for name in names if not name.startswith("hartonomous")]
        assert not strangers, f"the wheel holds {strangers}"
        assert any(name.startswith(KERNEL) for name in names), "the wheel has no kernel"
        for name, path in NEEDED.items():
            assert archive.read(f"hartonomous/{name}") == path.read_bytes(), name
    with tarfile.open(sdist) as archive:
        top = archive.getnames()[0].split("/")[0]
        for name, path in NEEDED.items():
            member = archive.extractfile(f"{top}/src/hartonomous/{name}")
            assert member is not None and member.read() == path.read_bytes(), name
        for name in (
            "README.md",
            "LICENSE",
            "pyproject.toml",
            *(f"docs/{path.name}" for path in FORMATS),
            *SOURCES,
        ):
            assert archive.getmember(f"{top}/{name}").isreg(), name
    with zipfile.ZipFile(plain_wheel) as archive:
        plain = set(archive.namelist())
        left_out = {name for name in set(names) - plain if "dist-info" not in name}
        assert all(name.startswith(KERNEL) for name in left_out) and left_out, left_out
    print(f"{len(NEEDED)} files are in both, {len(names)} files in the wheel")


if __name__ == "__main__":
    main(*sys.argv[1:])
