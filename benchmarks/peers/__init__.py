"""The tools that are measured side by side, ourselves first."""

from peers.dvc import Dvc
from peers.git_lfs import GitLfs
from peers.hartonomous_store import Hartonomous
from peers.hf_xet import HfXet
from peers.peer import Peer, UnavailableError
from peers.plain_copy import PlainCopy

PEERS: tuple[type[Peer], ...] = (Hartonomous, HfXet, GitLfs, Dvc, PlainCopy)

__all__ = ["PEERS", "Hartonomous", "Peer", "UnavailableError"]
