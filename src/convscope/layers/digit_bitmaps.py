"""The ten digits as bitmaps of 12 rows by 7 columns, in the manner of LeCun et al. 1998, figure 3: the fixed target
codes of LeNet-5's output units, chosen so that characters which look alike have similar codes."""

from __future__ import annotations

import torch

HEIGHT, WIDTH = 12, 7

#: One string a row, the ten digits from left to right; "#" is +1 and "." is −1.
_ROWS = """
..###.. ...##.. .#####. #####.. .....#. ####### ..####. ####### .#####. .####..
.#...#. ..###.. #.....# .....#. ....##. #...... .#..... ......# #.....# #....#.
#.....# .####.. ......# ......# ...#.#. #...... #...... .....#. #.....# #.....#
#.....# ...##.. ......# ......# ..#..#. #...... #...... .....#. #.....# #.....#
#.....# ...##.. ......# .....#. ..#..#. ######. #.####. ....#.. .#...#. #.....#
#.....# ...##.. .....#. .####.. .#...#. ......# ##....# ....#.. ..###.. .#...##
#.....# ...##.. ....#.. .....#. #....#. ......# #.....# ...#... .#...#. ..###.#
#.....# ...##.. ...#... ......# ####### ......# #.....# ...#... #.....# ......#
#.....# ...##.. ..#.... ......# .....#. ......# #.....# ..#.... #.....# ......#
#.....# ...##.. .#..... ......# .....#. ......# #.....# ..#.... #.....# .....#.
.#...#. ...##.. #...... .....#. .....#. #....#. .#...#. .#..... #.....# ....#..
..###.. .#####. ####### #####.. .....#. .####.. ..###.. .#..... .#####. .###...
"""


def digit_bitmaps() -> torch.Tensor:
    """(10, 84) float32 of ±1: row d is the bitmap of digit d, flattened row by row."""
    rows = [line.split() for line in _ROWS.split("\n") if line]
    pixels = [[[1.0 if mark == "#" else -1.0 for mark in row[digit]] for row in rows] for digit in range(10)]
    return torch.tensor(pixels).reshape(10, HEIGHT * WIDTH)
