"""``hart completions SHELL``: the script that a shell reads to complete commands and options."""

import click
from click.shell_completion import get_completion_class

from hartonomous.cli.frame import command as make_command

# Names have spaces, and what is unquoted is split and matched with files; a word that was begun
# with a quotation mark is taken as it is.
_BASH_UNQUOTED = "COMPREPLY+=($value)"
_BASH_QUOTED = """if [[ ${COMP_WORDS[COMP_CWORD]} != [\\"\\']* ]]; then
                printf -v value %q "$value"
            fi
            COMPREPLY+=("$value")"""


@make_command("completions")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def command(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    For bash: hart completions bash > ~/.local/share/bash-completion/completions/hart
    """
    maker = get_completion_class(shell)
    assert maker is not None, shell
    root = ctx.find_root().command
    click.echo(_source(maker, root))


def _source(maker: type, root: click.Command) -> str:
    # The base method: the one for bash runs the bash found here to judge its version, and the
    # script may be meant for another.
    from click.shell_completion import ShellComplete

    source = ShellComplete.source(maker(root, {}, "hart", "_HART_COMPLETE"))
    return source.replace(_BASH_UNQUOTED, _BASH_QUOTED)
