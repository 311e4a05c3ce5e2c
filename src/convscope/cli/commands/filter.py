"""``convscope filter``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("picture", type=click.Path(path_type=Path), metavar="PICTURE")
@click.option(
    "-k", "--kernel", metavar="NAME|ROWS|FILE", help="A name, rows such as '0 -1 0; -1 5 -1; 0 -1 0', a file."
)
@click.option("--size", type=int, metavar="N", help="Side of the kernel in pixels, odd.")
@click.option("--sigma", type=float, metavar="PIXELS", help="Width of the bell: gaussian, log, unsharp.")
@click.option("--angle", type=float, metavar="DEGREES", help="Of the line: motion.")
@click.option("--amount", type=float, metavar="NUMBER", help="How much is added: unsharp.")
@click.option("--convolution", is_flag=True, help="True convolution: the kernel turned by 180°. [default: correlation]")
@click.option(
    "--padding", default="reflect", show_default=True, metavar="NAME",
    help="What lies beyond the edges: reflect, symmetric, replicate, circular, zeros or constant.",
)  # fmt: skip
@click.option("--fill", type=float, default=0.0, show_default=True, help="The value beyond the edges: constant.")
@click.option("--normalise", is_flag=True, help="Divide rows of one's own by their sum.")
@click.option("--scale", type=float, default=1.0, show_default=True, help="Factor on the result.")
@click.option(
    "--offset", type=float, help="Added to the result. [default: mid-grey for results of either sign, else 0]"
)
@click.option("--alpha", default="keep", show_default=True, metavar="keep|filter", help="What becomes of transparency.")
@click.option("--sheet", is_flag=True, help="All filters on one picture, beside each other; needs no --kernel.")
@click.option("-o", "--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Picture to write.")
def command(picture: Path, kernel: str | None, out: Path, convolution: bool, sheet: bool, **options: Any) -> None:
    """Filter PICTURE with a classic kernel or one of your own; depth and transparency are kept.

    \b
    Names: box gaussian laplacian log sobel_x sobel_y sobel sobel_direction prewitt_x prewitt_y
    prewitt prewitt_direction sharpen unsharp emboss motion median

    \b
    Examples:
      convscope filter photo.jpg --kernel gaussian --size 5 --sigma 1.2 -o out.png
      convscope filter photo.jpg --kernel "0 -1 0; -1 5 -1; 0 -1 0" -o sharper.png
      convscope filter photo.jpg --sheet -o sheet.png
    """
    from convscope import kernels
    from convscope.tasks.filtering import filter_picture
    from convscope.tasks.filtering.files import read_picture, write_picture

    if sheet:
        from convscope.tasks.filtering.sheet import contact_sheet

        if kernel is not None:
            raise click.UsageError("--sheet shows all filters: leave --kernel away")
        contact_sheet(read_picture(picture), out)
        click.echo(f"{out}: {len(kernels.NAMES)} filters")
        return
    if kernel is None:
        raise click.UsageError("Missing option '--kernel' (or --sheet for all of them).")
    chosen: Any = kernel
    if kernel not in kernels.NAMES:
        if Path(kernel).is_file():
            chosen = kernels.read(kernel)
        elif ";" in kernel or kernel.lstrip("-+. ")[:1].isdigit():
            chosen = kernels.parse(kernel)
    pixels = read_picture(picture)
    mode = "convolution" if convolution else "correlation"
    result = filter_picture(pixels, chosen, mode=mode, **options)
    write_picture(out, result)
    most = 255 if result.dtype.itemsize == 1 else 65535
    ends = ((result == 0) | (result == most)).mean()
    bits = 8 * result.dtype.itemsize
    click.echo(
        f"{out}: {result.shape[1]}×{result.shape[0]}, {bits} bits a channel; {ends:.1%} black or white to the end"
    )
