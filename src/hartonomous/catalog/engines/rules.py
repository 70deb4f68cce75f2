"""What a database has to say for itself, so that ``catalog.database`` need not know which it is."""

from typing import Protocol

from sqlalchemy import Connection, Engine, PoolProxiedConnection
from sqlalchemy.engine.interfaces import DBAPIConnection

from hartonomous.errors import HartonomousError


class EngineRules(Protocol):
    """The ways of one database."""

    errors: tuple[type[Exception], ...]
    """What its driver raises where SQLAlchemy does not wrap it."""

    def for_reading(self, connection: Connection) -> Connection:
        """Return the connection with the options under which ``begin`` gives a consistent view."""
        ...

    def for_writing(self, connection: Connection, *, durable: bool, alone: bool) -> Connection:
        """Return the connection with the options under which ``begin`` starts a write."""
        ...

    def mark(self, connection: PoolProxiedConnection) -> object:
        """Return what is not equal to a former one if others committed what can be read now.

        It costs far less than to look; it may differ where nothing was changed.
        """
        ...

    def has_ended(self, connection: DBAPIConnection) -> bool:
        """Say whether a connection that nobody uses was ended by the other side; asks nobody."""
        ...

    def is_lost(self, error: BaseException) -> bool:
        """Say whether an error means that the connection is gone."""
        ...

    def after(self, error: BaseException, engine: Engine) -> None:
        """Do what an error in a write asks for before anything else is written."""
        ...

    def is_passing(self, error: BaseException) -> bool:
        """Say whether the same transaction may succeed when it is tried again at once."""
        ...

    def meaning(self, error: BaseException) -> HartonomousError:
        """Return what an error of the driver means to people."""
        ...
