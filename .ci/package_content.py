"""Asserts that wheel and source distribution carry what the program needs beside its modules."""

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEEDED = {
    "packs/FORMAT.md": ROOT / "docs" / "format.md",
    "packs/rescue.py": ROOT / "src" / "hartonomous" / "packs" / "rescue.py",
    "py.typed": ROOT / "src" / "hartonomous" / "py.typed",
}
MIGRATIONS = ROOT / "src" / "hartonomous" / "catalog" / "migrations"
NEEDED |= {
    f"catalog/migrations/{path.relative_to(MIGRATIONS)}": path for path in MIGRATIONS.rglob("*.py")
}


def main(wheel: str, sdist: str) -> None:
    """Compare each needed file in both archives with the working copy."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        strangers = [name for name in names if not name.startswith("hartonomous")]
        assert not strangers, f"the wheel holds {strangers}"
        for name, path in NEEDED.items():
            assert archive.read(f"hartonomous/{name}") == path.read_bytes(), name
    with tarfile.open(sdist) as archive:
        top = archive.getnames()[0].split("/")[0]
        for name, path in NEEDED.items():
            member = archive.extractfile(f"{top}/src/hartonomous/{name}")
            assert member is not None and member.read() == path.read_bytes(), name
        for name in ("README.md", "LICENSE", "pyproject.toml", "docs/format.md"):
            assert archive.getmember(f"{top}/{name}").isreg(), name
    print(f"{len(NEEDED)} files are in both, {len(names)} files in the wheel")


if __name__ == "__main__":
    main(*sys.argv[1:])
