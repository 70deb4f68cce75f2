"""The option and argument type of artifacts' names: any text, completed from the catalog."""

import click
from click.shell_completion import CompletionItem

from hartonomous.errors import HartonomousError

_MOST = 200


class ArtifactName(click.ParamType):  # type: ignore[type-arg]  # generic in newer releases of click only
    """``NAME`` or ``NAME@X``; the catalog, not the parser, decides whether there is one."""

    name = "name"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return names that begin with what was typed; nothing where no store can be read."""
        del param
        try:
            with ctx.obj.store() as store:
                return [CompletionItem(name) for name in store.names(incomplete, limit=_MOST)]
        except (HartonomousError, OSError):
            return []  # a shell that waits for a completion has no use for an error


ARTIFACT = ArtifactName()
