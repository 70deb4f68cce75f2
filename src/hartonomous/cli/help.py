"""``hart help COMMAND``: the same text as ``hart COMMAND --help``."""

import click

from hartonomous.cli.frame import command as make_command


def _commands(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    root = ctx.find_root().command
    assert isinstance(root, click.Group), root
    return [name for name in root.list_commands(ctx) if name.startswith(incomplete)]


@make_command("help")
@click.argument("words", nargs=-1, metavar="[COMMAND]...", shell_complete=_commands)
@click.pass_context
def command(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command."""
    shown = ctx.find_root()
    for position, word in enumerate(words):
        group = shown.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{shown.command_path!r} has no commands of its own", ctx)
        _, found, _ = group.resolve_command(shown, list(words[position:]))
        assert found is not None, word
        shown = click.Context(found, info_name=word, parent=shown, **found.context_settings)
    click.echo(shown.command.get_help(shown))
