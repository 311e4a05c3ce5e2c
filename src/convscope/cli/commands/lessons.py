"""``convscope lessons``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from convscope.cli.options import GroupedCommand


@click.command(cls=GroupedCommand)
@click.argument("lessons", metavar="[LESSON|FILE.toml]...", nargs=-1)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where the pages go.")
@click.option("--root", type=click.Path(path_type=Path), metavar="DIR", help="Folder that holds the data sets.")
@click.option("--lang", type=click.Choice(["en", "zh"]), help="Language to begin with. [default: the browser's]")
def command(lessons: Sequence[str], out: Path | None, root: Path | None, lang: str | None) -> None:
    """Build lessons into pages to hand out: one file each, in English and Chinese, without a server or a network.

    LESSON is one that comes with convscope, FILE.toml your own, which names its model and data; without any, all that
    come with it. Without --out they are listed. Every answer is worked out in float64 before a page is written.

    \b
    Examples:
      convscope lessons
      convscope lessons --out lessons
      convscope lessons pooling my_lesson.toml --out lessons --lang zh
    """
    from convscope.explorer.lessons import READY, build_lessons, read_lesson, ready_lesson

    if out is None:
        if lessons:
            raise click.UsageError("--out DIR says where the pages go.")
        for name in READY:
            lesson = read_lesson(ready_lesson(name))
            click.echo(f"{name}: {lesson.title['en']} · {lesson.title['zh']}, {len(lesson.stops)} steps")
        return
    for each in lessons or READY:
        (path,) = build_lessons([each], out, lang, root)
        click.echo(f"{path}: {path.stat().st_size / 1e6:.2f} MB")
