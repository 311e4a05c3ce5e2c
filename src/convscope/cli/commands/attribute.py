"""``convscope attribute``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from convscope.cli.opening import open_model
from convscope.cli.options import parse_pairs


def _list(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from convscope.columns import aligned
    from convscope.inspect.attribution import METHODS

    rows = []
    for name in METHODS:
        entry = METHODS[name]
        options = ", ".join(f"{key}={default}" for key, default in entry.options.items()) or "–"
        rows.append((name, options, entry.title))
    click.echo(aligned([("method", "options", "what it shows"), *rows], left=3))
    ctx.exit()


@click.command()
@click.argument("model")
@click.argument("picture", type=click.Path(path_type=Path))
@click.option(
    "-m", "--method", "methods", multiple=True, default=("grad_cam",), show_default=True, metavar="NAME",
    help="What to show, see --list; may be repeated.",
)  # fmt: skip
@click.option(
    "-t", "--target", metavar="CLASS|PLACE",
    help='What is explained: a class by name or number, or a place such as "conv2[5, 3, 7]" (unit), "conv2[5]" (map), '
    '"conv2[5, 2:6, 0:4]" (box). [default: the class that the model says]',
)  # fmt: skip
@click.option("--layer", metavar="NAME", help="Whose maps Grad-CAM takes. [default: the last ones]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Option of the method, e.g. steps=64.")
@click.option("--no-checks", is_flag=True, help="Leave out how far the maps can be trusted, which takes longest.")
@click.option("--loss", metavar="NAME", help="Loss whose scores decide. [default: the one it was trained with]")
@click.option(
    "-o", "--option", "pairs", multiple=True, metavar="KEY=VALUE", help="Option of a catalogue model's builder."
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: attribute-<model>]")
@click.option(
    "--list", is_flag=True, is_eager=True, expose_value=False, callback=_list, help="List the methods, and stop."
)
def command(
    model: str,
    picture: Path,
    methods: Sequence[str],
    target: str | None,
    layer: str | None,
    settings: Sequence[str],
    no_checks: bool,
    loss: str | None,
    pairs: Sequence[str],
    out: Path | None,
) -> None:
    """Show which part of PICTURE speaks for a class, a unit, a map or a box of MODEL (a saved file, or a catalogue
    name).

    For each method a picture (the map, laid over, with its checks) and the map as .npy (float32, as the model takes the
    picture) are written, and attributions.json with the figures. The checks: the score as the most marked pixels are
    deleted or inserted, beside random order; what random weights leave of the map (1: it does not follow the weights);
    how far the map is from adding up to the score.

    \b
    Examples:
      convscope attribute model.safetensors seven.png
      convscope attribute model.safetensors cat.jpg -m integrated_gradients -m occlusion --target cat
      convscope attribute model.safetensors seven.png -m gradient --target "c3[5, 2:6, 0:4]"
    """
    import json

    from convscope.data import prepare
    from convscope.data.pictures import load_picture
    from convscope.inspect.attribution import attribute, honesty
    from convscope.inspect.files import write_whole
    from convscope.inspect.inputs import input_of
    from convscope.inspect.pictures import attribution_figure, save_picture

    network, name, trained_with = open_model(model, parse_pairs(pairs, "--option"))
    takes = input_of(network)
    if takes.note:
        click.echo(takes.note, err=True)
    pixels = prepare(load_picture(picture)[None], takes.preprocessing)
    x = takes.preprocessing.normalise(pixels).reshape(1, *takes.shape)
    wanted = int(target) if target is not None and target.isdigit() else target
    given: dict[str, Any] = {**parse_pairs(settings, "--set"), "loss": loss or trained_with}
    folder = out or Path(f"attribute-{Path(name).stem}")
    figures: dict[str, Any] = {"model": name, "picture": str(picture), "target": target, "methods": {}}
    for method in methods:
        found = attribute(network, x, wanted, method, _layer(method, layer), **given)
        checks = None
        if not no_checks:
            checks = honesty(network, x, wanted, method, _layer(method, layer), found=found, **given)
        shown = found[0].reshape(-1, *takes.picture_shape[1:])
        title = f"{method} · {target if target is not None else 'the class that the model says'}"
        path = save_picture(attribution_figure(pixels[0], shown, title, checks), folder / f"{method}.png")
        _save_array(folder / f"{method}.npy", shown.float().cpu().numpy())
        figures["methods"][method] = _figures(checks)
        click.echo(f"{path}{'' if checks is None else _line(checks)}")
    text = json.dumps(figures, ensure_ascii=False, indent=2) + "\n"
    write_whole(folder / "attributions.json", lambda file: file.write(text.encode()))


def _layer(method: str, layer: str | None) -> str | None:
    """The layer for the methods that take one."""
    from convscope.inspect.attribution import METHODS

    return layer if METHODS[method].layer else None


def _save_array(path: Path, array: Any) -> None:
    import numpy as np

    from convscope.inspect.files import write_whole

    write_whole(path, lambda file: np.save(file, array, allow_pickle=False))


def _figures(checks: Any) -> dict[str, Any]:
    if checks is None:
        return {}
    return {
        "deletion": checks.deletion.area,
        "insertion": checks.insertion.area,
        "in_random_order": list(checks.by_chance),
        "agreement_with_random_weights": {each.layer: each.agreement for each in checks.randomised},
        "completeness_gap": checks.gap,
    }


def _line(checks: Any) -> str:
    last = checks.randomised[-1].agreement if checks.randomised else 0.0
    gap = "" if checks.gap is None else f", completeness gap {checks.gap:+.2%}"
    pairs = (("deletion", checks.deletion), ("insertion", checks.insertion))
    deletion, insertion = (
        f"{name} {curve.area:.3f} (random {chance:.3f})"
        for (name, curve), chance in zip(pairs, checks.by_chance, strict=True)
    )
    return f": {deletion}, {insertion}, agreement with random weights {last:+.2f}{gap}"
