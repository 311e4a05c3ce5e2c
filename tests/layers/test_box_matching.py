"""Which boxes stand for which things: small cases worked by hand, and a plain reference."""

from __future__ import annotations

import torch

from convscope.layers.box_matching import IGNORED, draw, drawn_regions, match_anchors, match_regions

EASY = torch.zeros(2, dtype=torch.bool)
THINGS = torch.tensor([[0.0, 0, 10, 10], [20.0, 20, 30, 30]])


def test_anchors_by_hand() -> None:
    anchors = torch.tensor(
        [
            [0.0, 0, 10, 10],  # the first thing itself
            [0.0, 0, 10, 8],  # IoU 0.8
            [0.0, 0, 10, 5],  # IoU 0.5: neither
            [0.0, 0, 10, 2],  # IoU 0.2: background
            [20.0, 20, 30, 26],  # IoU 0.6, but nothing overlaps the second thing more
            [50.0, 50, 60, 60],
        ]
    )
    labels, which = match_anchors(anchors, THINGS, EASY)
    assert labels.tolist() == [1, 1, IGNORED, 0, 1, 0]
    assert which[labels == 1].tolist() == [0, 0, 1]


def test_ties_for_a_thing_are_all_its() -> None:
    anchors = torch.tensor([[0.0, 0, 10, 5], [0.0, 5, 10, 10], [0.0, 0, 4, 4]])
    assert match_anchors(anchors, THINGS[:1], EASY[:1])[0].tolist() == [1, 1, 0]


def test_a_thing_that_no_anchor_touches_has_none() -> None:
    labels, _ = match_anchors(torch.tensor([[50.0, 50, 60, 60]]), THINGS, EASY)
    assert labels.tolist() == [0]


def test_a_picture_without_things_is_background() -> None:
    none, easy = torch.zeros(0, 4), torch.zeros(0, dtype=torch.bool)
    assert match_anchors(THINGS, none, easy)[0].tolist() == [0, 0]
    assert match_regions(THINGS, none, torch.zeros(0, dtype=torch.int64), easy)[0].tolist() == [0, 0]


def test_the_difficult_are_neither() -> None:
    hard = torch.tensor([True, False])
    labels, _ = match_anchors(THINGS, THINGS, hard)
    assert labels.tolist() == [IGNORED, 1]
    found, which, best = match_regions(THINGS, THINGS, torch.tensor([4, 2]), hard)
    assert (found.tolist(), which[1].item(), best.tolist()) == ([IGNORED, 3], 1, [0.0, 1.0])


def test_regions_by_hand() -> None:
    regions = torch.tensor([[0.0, 0, 10, 5], [0.0, 0, 10, 4.9], [21.0, 21, 30, 30], [40.0, 40, 50, 50]])
    labels, which, best = match_regions(regions, THINGS, torch.tensor([0, 1]), EASY)
    assert labels.tolist() == [1, 0, 2, 0]
    assert which[:3].tolist() == [0, 0, 1]
    torch.testing.assert_close(best, torch.tensor([0.5, 0.49, 0.81, 0.0]))


def test_a_draw_has_its_shares() -> None:
    first, second = torch.arange(100) < 40, torch.arange(100) >= 60
    chance = torch.Generator().manual_seed(1)
    chosen = draw(first, second, 32, 0.25, chance)
    assert len(set(chosen.tolist())) == 32
    assert int(first[chosen].sum()) == 8
    assert int(second[chosen].sum()) == 24
    few = draw(torch.arange(100) < 3, second, 32, 0.25, chance)
    assert int((few < 3).sum()) == 3
    assert len(few) == 32
    assert draw(first & second, second, 64, 0.25, chance).shape == (40,)
    again = draw(first, second, 32, 0.25, torch.Generator().manual_seed(1))
    assert torch.equal(again, chosen)


def test_drawn_regions_keep_to_the_paper() -> None:
    """A quarter on things, the rest in [0.1, 0.5); the things themselves are regions too."""
    chance = torch.Generator().manual_seed(0)
    corner = 30 * torch.rand(400, 2, generator=chance)
    regions = torch.cat((corner, corner + 4 + 10 * torch.rand(400, 2, generator=chance)), 1)
    labels = torch.tensor([0, 1])
    chosen = drawn_regions(regions, THINGS, labels, EASY, 64, 0.25, 0.1, chance)
    found, _, best = match_regions(chosen, THINGS, labels, EASY)
    assert 2 <= int((found > 0).sum()) <= 16
    assert float(best[found == 0].min()) >= 0.1
    far = torch.tensor([[80.0, 80, 90, 90]]).expand(50, 4)
    chosen = drawn_regions(far, THINGS, labels, EASY, 64, 0.25, 0.1, chance)
    assert len(chosen) == 52, "where nothing overlaps a little, what does not at all is drawn"
