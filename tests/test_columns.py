"""Tables whose names are Chinese, accented, or hostile."""

from __future__ import annotations

from convscope.columns import aligned, cut, figure, padded, ruled, share, shown, width


def test_columns_line_up() -> None:
    assert aligned([("a", "bb"), ("ccc", "d")], left=1) == "a    bb\nccc   d"
    assert ruled([("a", "b"), ("cc", "d"), ("e", "f")], left=1) == "a   b\n─────\ncc  d\n─────\ne   f"


def test_wide_characters_take_two_cells_and_accents_none() -> None:
    assert [width(text) for text in ("cat", "猫", "ねこ", "cafe\u0301", "−×…")] == [3, 2, 4, 4, 3]
    lines = aligned([("class", "wrong"), ("猫", "1"), ("cafe\u0301", "22")], left=1).splitlines()
    assert lines == ["class  wrong", "猫         1", "cafe\u0301      22"]
    assert {width(line) for line in lines} == {12}


def test_padding_and_cutting_count_cells() -> None:
    assert padded("猫", 4) == "猫  "
    assert padded("猫", 4, right=True) == "  猫"
    assert padded("longer", 3) == "longer"
    assert [cut("猫猫猫", cells) for cells in (6, 5, 4, 1)] == ["猫猫猫", "猫猫", "猫猫", ""]
    assert cut("abcdef", 4) == "abcd"


def test_a_terminal_obeys_nothing_in_a_name() -> None:
    assert shown("cat\x1b[2Jdog") == "cat␛[2Jdog"
    assert shown("a\nb\tc\x7f\x9b\u202ed") == "a␊b␉c␡��d"
    assert len(aligned([("a\nb", "1"), ("c", "2")]).splitlines()) == 2
    assert shown("Čšž 猫 é") == "Čšž 猫 é"


def test_a_share_of_nothing_is_a_dash() -> None:
    nothing = float("nan")
    assert [share(each) for each in (0.5, 0.0, nothing, None)] == ["50.00%", "0.00%", "–", "–"]
    assert figure("mean_ap", nothing, ("mean_ap",)) == "–"
    assert figure("mean_ap", 0.125, ("mean_ap",)) == "12.50%"
    assert figure("loss", nothing, ("mean_ap",)) == "nan", "a loss that has left all bounds is said"
