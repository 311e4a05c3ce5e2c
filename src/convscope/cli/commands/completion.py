"""``convscope completion``."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print what makes SHELL complete commands, options, names of models, data sets and experiments, and files.

    \b
    Examples:
      convscope completion bash                  into ~/.bashrc, or run: eval "$(convscope completion bash)"
      convscope completion zsh                   into ~/.zshrc, behind compinit
      convscope completion fish                  into ~/.config/fish/completions/convscope.fish
    """
    from click.shell_completion import get_completion_class

    from convscope.cli.completing import prepare_names
    from convscope.cli.main import VARIABLE, group

    made = get_completion_class(shell)
    assert made is not None
    # made by hand: what click's ``source`` does first is to start bash and ask for its version
    filled = made(group, {}, "convscope", VARIABLE)
    click.echo(filled.source_template % filled.source_vars())
    prepare_names()
