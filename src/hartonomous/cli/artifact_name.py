"""The types of arguments that name what a store holds: any text, completed from the catalog."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from hartonomous.errors import HartonomousError

if TYPE_CHECKING:
    from hartonomous.store import Store

_MOST = 200


class _StoredName(click.ParamType, ABC):  # type: ignore[type-arg]  # generic in newer releases of click only
    """A text; the catalog, not the parser, decides whether there is anything of that name."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return what begins with what was typed; nothing where no store can be read."""
        del param
        try:
            with ctx.obj.store() as store:
                words = self.words(store, ctx, incomplete)
                found = [word for word in words if word.startswith(incomplete)]
        except (HartonomousError, OSError):
            return []  # a shell that waits for a completion has no use for an error
        return [CompletionItem(word) for word in list(dict.fromkeys(found))[:_MOST]]

    @abstractmethod
    def words(self, store: "Store", ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return the words to choose from."""


class ArtifactName(_StoredName):
    """``NAME`` or ``NAME@X``."""

    def words(self, store: "Store", ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return names; behind an ``@`` the labels and numbers of that name's versions."""
        del ctx
        yield from store.names(incomplete, limit=_MOST)
        name, mark, _ = incomplete.rpartition("@")
        if mark:
            versions = [one for one in store.ls(name, versions=True) if one.name == name]
            yield from (f"{name}@{label}" for one in versions for label in one.labels)
            yield from (f"{name}@{one.number}" for one in reversed(versions))


class ArtifactOrPath(ArtifactName):
    """``NAME``, ``NAME@X`` or a path; files are offered where no name fits."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return names that fit, and leave it to the shell to find files."""
        names = super().shell_complete(ctx, param, incomplete)
        return [*names, CompletionItem(incomplete, type="file")]


class TensorName(_StoredName):
    """A tensor of the artifact that the argument before names."""

    def words(self, store: "Store", ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return the names of its tensors."""
        del incomplete
        return store.tensors(ctx.params["name"], member=ctx.params.get("member"))


class LabelName(_StoredName):
    """A label: those of the artifact that the argument before names, then all others in use."""

    def words(self, store: "Store", ctx: click.Context, incomplete: str) -> Iterable[str]:
        """Return labels."""
        del incomplete
        name = str(ctx.params.get("spec") or "")
        known = store.ls(versions=True)
        ours = [one for one in known if name in (one.name, f"{one.name}@{one.number}")]
        yield from (label for one in ours for label in one.labels)
        if not ctx.params.get("remove"):
            yield from sorted(label for one in known for label in one.labels)


ARTIFACT = ArtifactName()
ARTIFACT_OR_PATH = ArtifactOrPath()
TENSOR = TensorName()
LABEL = LabelName()
