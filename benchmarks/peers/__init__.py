"""The tools that are measured side by side, ourselves first."""

from peers.dvc import Dvc
from peers.git_lfs import GitLfs
from peers.hartonomous_store import Hartonomous
from peers.hf_xet import HfXet
from peers.peer import Peer, UnavailableError
from peers.plain_copy import PlainCopy
from peers.restic import Restic
from peers.zipnn import ZipNN
from peers.zstd import Zstd3, Zstd19

PEERS: tuple[type[Peer], ...] = (Hartonomous, HfXet, GitLfs, Dvc, PlainCopy)
"""Tools that keep versions, and cp: every benchmark runs these."""

COMPARED: tuple[type[Peer], ...] = (
    Hartonomous, HfXet, ZipNN, Restic, GitLfs, Dvc, Zstd3, Zstd19, PlainCopy
)  # fmt: skip
"""What the family is compared with: also tools that compress files one by one, and backups."""

__all__ = [
    "COMPARED", "PEERS", "Dvc", "GitLfs", "Hartonomous", "HfXet", "Peer", "UnavailableError"
]  # fmt: skip
