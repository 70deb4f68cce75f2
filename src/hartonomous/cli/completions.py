"""``hart completions SHELL``: the script that a shell reads to complete commands and options."""

from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from hartonomous.cli.frame import command as make_command

if TYPE_CHECKING:
    from click.shell_completion import ShellComplete

# click's own script takes words as bash splits them, at : = and @ too, so that it completes neither
# llama3:8b nor NAME@prod; it also leaves spaces in names unquoted.
_BASH = r"""_hart_completion() {
    local IFS=$'\n'
    local response completion type value word prefix="" index=0 at typed=$COMP_LINE
    local -a words=()
    for ((at = 0; at <= COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        if [[ $at -gt 0 && -n $typed && $typed != [[:space:]]* ]] &&
            [[ $word == [:=@]* || ${COMP_WORDS[at - 1]} == *[:=@] ]]; then
            words[index]+=$word
        else
            index=${#words[@]}
            words+=("$word")
        fi
        typed=${typed#"${typed%%[![:space:]]*}"}
        typed=${typed#"$word"}
    done
    # Readline replaces only what follows the last of : = and @.
    if [[ ${words[index]} != [\"\']* ]]; then
        prefix=${words[index]}
        [[ $word == [:=@]* ]] || prefix=${prefix%"$word"}
        [[ $prefix != --*=* ]] || prefix=${prefix#*=}
        prefix=${prefix//\\/}
    fi

    response=$(env COMP_WORDS="${words[*]}" COMP_CWORD=$index _HART_COMPLETE=bash_complete $1)

    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames 2> /dev/null
        elif [[ $type == 'file' ]]; then
            compopt -o default 2> /dev/null
        elif [[ $type == 'plain' ]]; then
            value=${value#"$prefix"}
            [[ $value != *= ]] || compopt -o nospace 2> /dev/null
            if [[ ${words[index]} != [\"\']* && $value != *= ]]; then
                printf -v value %q "$value"
            fi
            COMPREPLY+=("$value")
        fi
    done

    return 0
}

complete -o nosort -F _hart_completion hart"""


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


def _source(maker: "type[ShellComplete]", root: click.Command) -> str:
    from click.shell_completion import BashComplete

    if issubclass(maker, BashComplete):
        return _BASH
    return maker.source(maker(root, {}, "hart", "_HART_COMPLETE"))
