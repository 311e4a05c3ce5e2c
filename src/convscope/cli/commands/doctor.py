"""``convscope doctor``."""

from __future__ import annotations

from pathlib import Path

import click

from convscope.cli.terminal import json_text


@click.command()
@click.option(
    "--root", type=click.Path(path_type=Path), metavar="DIR", help="Folder that holds a folder for each data set."
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def command(root: Path | None, as_json: bool) -> int:
    """Say what this computer has for convscope, and for each lack what to do.

    The exit code is 0 unless something is broken: what is merely not there, a GPU or an optional package, is no error.

    \b
    Examples:
      convscope doctor
      convscope doctor --json
    """
    from convscope.cli.health import examine

    found = examine(root)
    if as_json:
        click.echo(json_text({each.name: each.to_json() for each in found}))
    else:
        width = max(len(each.name) for each in found)
        for each in found:
            click.echo(f"{each.sign}  {each.name:<{width}}  {each.told}")
            if each.remedy:
                click.echo(f"   {'':<{width}}  → {each.remedy}")
        click.echo("\n✓ there   – not there, and not needed   ✗ broken")
    return 1 if any(each.state == "broken" for each in found) else 0
