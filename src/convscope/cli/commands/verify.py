"""``convscope verify``."""

from __future__ import annotations

from pathlib import Path

import click

from convscope.cli.terminal import json_text


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--model", "file", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Saved verifier.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
def command(first: Path, second: Path, file: Path, as_json: bool) -> None:
    """Say whether the pictures FIRST and SECOND show the same person: score, threshold and decision.

    Pictures of other sizes than the model's are fitted, which is said.

    \b
    Examples:
      convscope verify anna.png berta.png --model runs/faces/model.safetensors
      convscope verify a.pgm b.pgm --model runs/faces/model.safetensors --json
    """
    from convscope.errors import ArgumentError
    from convscope.models.modelfile import load
    from convscope.tasks import task_of

    model = load(file)
    task = task_of(model)
    if task.name != "verification":
        raise ArgumentError("model", f"{file}, a model for {task.name}", "one for verification")
    (verdict,) = task.predict(model, [str(first), str(second)])
    content = verdict.to_json()
    for each in content["fitted"]:
        click.echo(f"fitted: {each}", err=True)
    click.echo(json_text(content) if as_json else verdict.line(1))
