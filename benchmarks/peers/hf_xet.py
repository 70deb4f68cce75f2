"""hf-xet with a store in a local directory, through its Python package."""

import json
from collections.abc import Sequence
from pathlib import Path

from made_files import size_of
from measure import Measured, run

from peers.peer import Peer, package_version, python_with

_ADD = """
import json, sys
from pathlib import Path
import hf_xet
store, listing, *paths = sys.argv[1:]
files = [f for p in map(Path, paths) for f in (sorted(p.rglob("*")) if p.is_dir() else [p])
         if f.is_file()]
roots = {f: p.parent for p in map(Path, paths) for f in ([p, *p.rglob("*")])}
done = hf_xet.upload_files([str(f) for f in files], "local://" + store, None, None, None, "model")
known = json.loads(Path(listing).read_text()) if Path(listing).exists() else []
known += [[str(f.relative_to(roots[f])), d.hash, f.stat().st_size] for f, d in zip(files, done)]
Path(listing).write_text(json.dumps(known))
"""
_GET = """
import json, sys
from pathlib import Path
import hf_xet
store, listing, out, *only = sys.argv[1:]
wanted = []
for name, digest, size in json.loads(Path(listing).read_text()):
    if only and name.split("/")[0] not in only:
        continue
    target = Path(out) / name
    target.parent.mkdir(parents=True, exist_ok=True)
    wanted.append(hf_xet.PyXetDownloadInfo(str(target), digest, size))
hf_xet.download_files(wanted, "local://" + store, None, None, None)
"""


class HfXet(Peer):
    """The deduplicating storage of the Hugging Face hub, without a server."""

    name = "hf-xet"

    def version(self) -> str:
        """Return the package's version."""
        return package_version(self._python, "hf-xet")

    @property
    def _python(self) -> Path:
        return python_with("hf-xet", self.tools)

    def prepare(self) -> None:
        """Make the store's directory; a cache that it keeps elsewhere is put beside it."""
        super().prepare()
        (self.work / "store").mkdir()

    def _run(self, code: str, *arguments: str) -> Measured:
        store, listing = self.work / "store", self.work / "files.json"
        command = [str(self._python), "-c", code, str(store), str(listing), *arguments]
        return run(command, env={"HF_XET_CACHE": str(self.work / "cache")})

    def add(self, paths: Sequence[Path]) -> Measured:
        """Upload into the local store."""
        return self._run(_ADD, *(str(path.resolve()) for path in paths))

    def get(self, out: Path, names: Sequence[str] | None = None) -> Measured:
        """Download files."""
        out.mkdir(parents=True, exist_ok=True)
        return self._run(_GET, str(out.resolve()), *(names or ()))

    def stored_bytes(self) -> int:
        """Return data and shards; the look-up file of fixed size is left out."""
        kept = self.work / "store" / "xet" / "xorbs"
        return size_of(kept / "xorbs") + size_of(kept / "shards")

    def listed(self) -> int:
        """Return how many files were taken in."""
        return len(json.loads((self.work / "files.json").read_text(encoding="utf-8")))
