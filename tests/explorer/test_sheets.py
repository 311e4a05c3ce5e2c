"""Sheets to fill in by hand: the key as autograd has it in float64, and a hand calculation within what is promised."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tests.explorer.fixtures import reference

from convscope.cli.commands import explore
from convscope.data import load_dataset
from convscope.errors import ArgumentError, UnknownNameError
from convscope.explorer.lessons import save_sheet, sheet_of
from convscope.explorer.lessons.plan import exact_input
from convscope.explorer.session import Session
from convscope.models import create_model


@pytest.fixture(scope="module")
def session() -> Session:
    torch.manual_seed(5)
    return Session(create_model("lenet5", activation="relu", pool="max"), load_dataset("digits"))


def rows(part: str) -> list[list[str]]:
    return [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", part)][1:]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def parts(sheet: str) -> tuple[list[list[str]], list[list[str]], float, int]:
    """Rows of the sheet and of the key, the promised bound, the decimal places of products."""
    blank, key = re.findall(r"<section.*?</section>", sheet, re.DOTALL)
    bound = re.search(r"±([\d.]+)", blank)
    places = re.search(r"to (\d+) decimal", blank)
    assert bound is not None
    assert places is not None
    return rows(blank), rows(key), float(bound[1]), int(places[1])


@pytest.mark.parametrize(
    ("place", "of"),
    [
        ("c3/5/3/7", "value"), ("c3/9/4/4", "delta"), ("f5/3", "value"), ("c1.weight/2/0/1/3", "gradient"),
        ("output/3", "value"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("terms", [5, 12])
def test_a_hand_calculation_comes_within_the_bound(session: Session, place: str, of: str, terms: int) -> None:
    blank, key, bound, places = parts(sheet_of(session, place, of, terms))
    products = [row for row in blank if len(row) == 4]
    assert all(row[3] == "" for row in products)
    total = sum(round(number(row[1]) * number(row[2]), places) for row in products)
    result = total
    for row in blank[len(products) :]:
        if row[0].startswith(("+", "−")) or "subtotal" in row[0]:
            result += number(row[1])
        elif row[0].startswith("×"):
            result *= number(row[1])
    target = session.snapshot.question.target
    assert target is not None
    truth = reference(session.model, exact_input(session), target)
    name, *rest = place.split("/")
    index = tuple(map(int, rest))
    tensors = {"value": truth.y, "delta": truth.grad_y, "gradient": truth.gradients}[of]
    exact = float(tensors[name][index] if of == "gradient" else tensors[name][(0, *index)])
    assert abs(result - exact) <= bound
    assert bound < 0.02 * abs(exact) + 1e-3
    named = [row for row in key if row[0].startswith("= ")][-1]
    assert number(named[1]) == pytest.approx(exact, abs=0.51 * 10**-places)
    assert all(cell for row in key for cell in row[1:])


def test_padding_a_maximum_and_what_follows(session: Session) -> None:
    blank, key, _, _ = parts(sheet_of(session, "c1/0/0/0", terms=25))
    assert sum(row[0] == "padding" for row in blank) == 25 - 9
    value = number([row for row in key if row[0].startswith("= ")][-1][1])
    after = key[-1]
    assert after[0] == "ReLU(z)"
    assert number(after[1]) == max(0.0, value)
    blank, _, _, _ = parts(sheet_of(session, "s2/1/3/4"))
    assert sorted(number(row[1]) for row in blank[:4]) == [0, 0, 0, 1]
    assert blank[-1][1] == ""


def test_in_chinese_with_the_model_and_the_class(session: Session) -> None:
    sheet = sheet_of(session, "c1/0/3/4", lang="zh")
    assert '<html lang="zh-CN">' in sheet
    assert "手算" in sheet
    assert "模型 lenet5，目标类别 3" in sheet
    assert "size: A4" in sheet
    assert not re.search(r"(?:src|href)=\"(?!data:)", sheet)


def test_wrong_sheets_are_named(session: Session, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="layer: got 'c9'"):
        sheet_of(session, "c9/0")
    with pytest.raises(ArgumentError, match=r"unit: got \[5, 3\], wanted 3 indices: 0…15, 0…9, 0…9"):
        sheet_of(session, "c3/5/3")
    with pytest.raises(ArgumentError, match="unit: got 'c1/0/0/2/2', wanted a weight"):
        sheet_of(session, "c1/0/0/2/2", "gradient")
    with pytest.raises(UnknownNameError, match="of: got 'sum'"):
        sheet_of(session, "c1/0/0/0", "sum")
    with pytest.raises(ArgumentError, match="terms: got 61, wanted 1 to 60"):
        sheet_of(session, "c1/0/0/0", terms=61)
    with pytest.raises(ArgumentError, match="lang: got 'de'"):
        sheet_of(session, "c1/0/0/0", lang="de")
    with pytest.raises(ArgumentError, match="sheet: got .*, wanted a file in a folder that exists"):
        save_sheet(session, tmp_path / "none" / "sheet.html", "c1/0/0/0")


def test_the_command(tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    args = ["lenet5", "--sheet", str(path), "--unit", "c3/5/3/7", "--of", "delta", "--terms", "6", "--lang", "zh"]
    result = CliRunner().invoke(explore.command, args, catch_exceptions=False)
    assert "delta of c3/5/3/7, the sheet and its key." in result.output
    assert "手算" in path.read_text("utf-8")
    for wrong in (["--sheet", str(path)], ["--unit", "c1/0/0/0"]):
        result = CliRunner().invoke(explore.command, ["lenet5", *wrong])
        assert result.exit_code == 2
        assert "belong together" in result.output
