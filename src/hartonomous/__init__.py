"""Hartonomous keeps every model variant and media corpus once, and gives exact bytes back.

    import hartonomous as hn
    store = hn.open("models", create=True)
    store.add("model.safetensors")

Names are loaded when they are first used, so that importing the package costs nothing.
"""

import gc
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hartonomous.version import __version__

if TYPE_CHECKING:
    from hartonomous.checkpoints import Checkpoints
    from hartonomous.opening import init
    from hartonomous.opening import open_store as open
    from hartonomous.opening import repair_store as repair
    from hartonomous.opening import restore_store as restore
    from hartonomous.opening import sync_stores as sync
    from hartonomous.store import Store
    from hartonomous.tensors import load_file, safe_open, save_file

_NAMES = {
    "Store": "hartonomous.store:Store",
    "init": "hartonomous.opening:init",
    "open": "hartonomous.opening:open_store",
    "repair": "hartonomous.opening:repair_store",
    "restore": "hartonomous.opening:restore_store",
    "sync": "hartonomous.opening:sync_stores",
    "Checkpoints": "hartonomous.checkpoints:Checkpoints",
    "load_file": "hartonomous.tensors:load_file",
    "save_file": "hartonomous.tensors:save_file",
    "safe_open": "hartonomous.tensors:safe_open",
    "HartonomousError": "hartonomous.errors:HartonomousError",
}

_SPINNING, _LEAST_SPINNING = "OPENBLAS_THREAD_TIMEOUT", "4"

__all__ = [
    "Checkpoints",
    "HartonomousError",
    "Store",
    "__version__",
    "init",
    "load_file",
    "open",
    "repair",
    "restore",
    "safe_open",
    "save_file",
    "sync",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first asked for."""
    place = _NAMES.get(name)
    if place is None:
        raise AttributeError(f"module 'hartonomous' has no attribute {name!r}")
    module, _, attribute = place.partition(":")
    return getattr(_load(module), attribute)


def _load(module: str) -> Any:
    """Import a module in half the time: without looking for garbage, of which modules make none.

    OpenBLAS, which comes with numpy, has a thread spin for 2^26 cycles when it starts, unless told
    to sleep sooner; nothing here multiplies matrices.
    """
    collecting = gc.isenabled()
    gc.disable()
    told = "numpy" in sys.modules or _SPINNING in os.environ
    if not told:
        os.environ[_SPINNING] = _LEAST_SPINNING
    try:
        return import_module(module)
    finally:
        if not told:
            os.environ.pop(_SPINNING, None)
        if collecting:
            gc.enable()


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
