"""Makes a process ready from which children are forked: everything was imported and done once.

A child then spends its time on the store. Nothing of what is done is changed: statements were
compiled by what is done here, and children find them compiled.
"""

import gc
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.util import LRUCache
from tests.torture import observe, operations

_STATEMENTS = 5_000


def warm(memory: Path) -> None:
    """Do every step, and look at what is left, in a folder of its own."""
    _share_statements()
    folder = Path(tempfile.mkdtemp(dir=memory, prefix="warm-"))
    try:
        _do_everything(folder)
    finally:
        shutil.rmtree(folder)
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()  # a collection in a child would write into every page of what is here


def _share_statements() -> None:
    """Let engines of one kind share the statements that were compiled for any of them."""
    shared: dict[str, LRUCache[Any, Any]] = {}
    begin = Engine.__init__

    def begin_shared(self: Engine, *given: Any, **named: Any) -> None:
        begin(self, *given, **named)
        self._compiled_cache = shared.setdefault(self.dialect.name, LRUCache(_STATEMENTS))

    Engine.__init__ = begin_shared  # type: ignore[method-assign]
    for kind in (SQLiteDialect, PGDialect):  # parts of the keys
        kind.__hash__ = lambda self: hash(type(self))  # type: ignore[assignment, method-assign]
        kind.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[assignment, method-assign]


def _do_everything(folder: Path) -> None:
    files, store, out = folder / "files", folder / "store", folder / "out"
    operations.write_files(files)
    operations.make(store, files)
    operations.make_other(operations.beside(store), files)
    done: list[str] = []
    for steps in (*operations.SCRIPTS.values(), ("update", "verify", "pull", "sync", "push")):
        again = folder / "again" / str(len(done))
        shutil.copytree(store, again)
        shutil.copytree(operations.beside(store), operations.beside(again), dirs_exist_ok=True)
        operations.run(again, files, steps, done.append)
        observe.everything(again, out, collect=True, may_need_repair=False, repair=False)
    shutil.rmtree(operations.beside(store))
    operations.run(store, files, ("backup",), done.append)
    observe.backups(operations.beside(store), store, out)
    observe.damaged(store, out, mend=True)
