"""Truncated singular values: the best of their rank, fewer weights, the same model otherwise, through a file."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.cli.conftest import call_convscope
from tests.oracles import check_model, worst
from torch import Tensor, nn

from convscope import compress, create_model, load, save
from convscope.errors import ArgumentError, UnknownNameError
from convscope.models import portable
from convscope.models.compressing import compression_of
from convscope.models.modelfile import describe
from convscope.native import accelerate, available
from convscope.spec import spec_of


def network() -> Any:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 64), nn.ReLU(), nn.Linear(64, 48, bias=False),
        nn.Tanh(), nn.Linear(48, 3),
    )  # fmt: skip


def pictures(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(5, 1, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(1))


def product(two: Any) -> Tensor:
    found: Tensor = two[1].weight @ two[0].weight
    return found


def test_it_is_the_best_matrix_of_its_rank() -> None:
    """Eckart and Young: what is lost are the other singular values, and no other matrix of that rank loses less."""
    model = network().double()
    small: Any = compress(model, rank=7)
    one = model[3].weight.detach()
    other = product(small.get_submodule("3")).detach()
    assert int(torch.linalg.matrix_rank(other)) == 7
    left = torch.linalg.svdvals(one)[7:]
    assert float((one - other).norm()) == pytest.approx(float(left.norm()), rel=1e-9)
    u, s, vt = torch.linalg.svd(one)
    stream = torch.Generator().manual_seed(2)
    for _ in range(5):
        nudge = torch.randn(64, 7, generator=stream, dtype=torch.float64)
        rival = (u[:, :7] + 0.05 * nudge) @ torch.diag(s[:7]) @ vt[:7]
        assert float((one - rival).norm()) > float((one - other).norm())
    row = compression_of(small)[0]
    assert (row.name, row.shape, row.rank, row.before, row.after) == ("3", (64, 144), 7, 64 * 144, 7 * (64 + 144))
    assert row.error == pytest.approx(float(left.norm() / one.norm()), rel=1e-9)


def test_it_computes_as_the_model_with_the_near_matrix() -> None:
    model = network().double()
    small: Any = compress(model, rank={"3": 20, "5": 10})
    assert [type(each).__name__ for each in small.get_submodule("3")] == ["Linear", "Linear"]
    assert small.get_submodule("5.1").bias is None
    assert small.get_submodule("3.0").bias is None
    near = network().double()
    near.load_state_dict(model.state_dict())
    with torch.no_grad():
        near[3].weight.copy_(product(small.get_submodule("3")))
        near[5].weight.copy_(product(small.get_submodule("5")))
    x = pictures(torch.float64)
    assert worst(small(x).detach(), near(x).detach()) < 1e-12
    assert worst(small(x).detach(), model(x).detach()) > 1e-3
    check_model(small, x)


@pytest.mark.parametrize("energy", [0.3, 0.8, 0.9])
def test_energy_takes_the_fewest_values_that_hold_it(energy: float) -> None:
    model = network().double()
    rows = compression_of(compress(model, energy=energy))
    for row, place in zip(rows, (3, 5, 7), strict=True):
        weight = model[place].weight.detach()
        squares = torch.linalg.svdvals(weight).square() / weight.square().sum()
        needed = next(t for t in range(1, len(squares) + 1) if float(squares[:t].sum()) >= energy)
        u, v = row.shape
        if needed * (u + v) < u * v:
            assert row.rank == needed
            assert row.error**2 == pytest.approx(1 - float(squares[:needed].sum()), abs=1e-9)
            assert row.error**2 <= 1 - energy + 1e-12
        else:
            assert row.rank is None
            assert f"rank {needed} would be needed" in row.reason
    assert any(row.rank is not None for row in rows)


def test_a_matrix_of_low_rank_is_kept_whole() -> None:
    model: Any = nn.Sequential(nn.Linear(40, 30))
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(30, 4) @ torch.randn(4, 40))
    small: Any = compress(model, energy=0.99999999)
    (row,) = compression_of(small)
    assert row.rank == 4
    x = torch.randn(6, 40)
    assert worst(small(x).detach(), model(x).detach()) < 1e-5


def test_the_model_itself_stays() -> None:
    model = network().train()
    model[3].weight.requires_grad_(False)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    small: Any = compress(model, rank=4)
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    assert compression_of(model) == ()
    assert small.training
    assert not small.get_submodule("3.0").weight.requires_grad
    assert small.get_submodule("3.1").bias.requires_grad
    small.get_submodule("0").weight.data.add_(1)
    assert torch.equal(model[0].weight, before["0.weight"])


def test_it_goes_through_a_file(tmp_path: Path) -> None:
    model = create_model("lenet5", in_channels=1, classes=10).eval()
    small: Any = compress(model, rank=12)
    again = load(save(small, tmp_path / "small.safetensors")).eval()
    described = spec_of(again)
    assert described is not None
    assert described.architecture == "lenet5"
    assert set(described.ranks.values()) == {12}
    x = torch.rand(2, *described.input_shape)
    assert torch.equal(again(x), small(x))
    assert sum(each.numel() for each in again.parameters()) < sum(each.numel() for each in model.parameters())
    twice = compress(again, rank=5)
    third = load(save(twice, tmp_path / "smaller.safetensors")).eval()
    assert torch.equal(third(x), twice(x))


def test_a_users_own_network_goes_through_a_file(tmp_path: Path) -> None:
    small: Any = compress(network(), rank=12).eval()
    again = load(save(small, tmp_path / "own.safetensors", input_shape=(1, 8, 8))).eval()
    assert torch.equal(again(pictures()), small(pictures()))


@pytest.mark.skipif(not available(), reason="the native engine is not built")
def test_the_engine_takes_it_natively() -> None:
    small: Any = compress(network(), rank=12).eval()
    fast = accelerate(small)
    assert worst(fast(pictures()).detach(), small(pictures()).detach()) < 1e-5
    assert fast.report().startswith(
        "pictures of 1×8×8\nnative: every layer\ncompared with torch on 5 pictures, the same"
    )


def test_layers_that_must_stay() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = nn.Linear(32, 32), nn.Linear(32, 32)
            self.two.weight = self.one.weight
            self.free = nn.Linear(32, 32)
            self.free_again = self.free
            self.block = nn.TransformerEncoderLayer(32, 4, 32, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.free_again(self.free(self.two(self.one(x))))
            return y

    model = Tied()
    small: Any = compress(model, rank=2)
    reasons = {row.name: row.reason for row in compression_of(small)}
    assert reasons.pop("one") == reasons.pop("two") == "its weights are shared"
    assert reasons.pop("free") == ""
    assert set(reasons) == {"block.linear1", "block.linear2"}
    assert "TransformerEncoderLayer computes with its weights" in reasons.values()
    assert small.free is small.free_again
    assert small(torch.zeros(3, 32)).shape == (3, 32)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, r"energy, rank: got \(None, None\), wanted one of the two"),
        ({"energy": 0.5, "rank": 3}, "energy, rank: got"),
        ({"energy": 0.0}, "energy: got 0.0"),
        ({"energy": 1.5}, "energy: got 1.5"),
        ({"energy": math.nan}, "energy: got nan"),
        ({"energy": True}, "energy: got True"),
        ({"energy": 1.0}, "energy: got 1.0, wanted one with which a layer becomes smaller. 3: rank 64 would be needed"),
        ({"rank": 0}, "rank: got 0, wanted a whole number of singular values, at least 1"),
        ({"rank": 2.5}, "rank: got 2.5"),
        ({"rank": True}, "rank: got True"),
        ({"rank": {"3": -1}}, "rank: got '-1 for 3'"),
        ({"rank": 1000}, "rank: got 1000, wanted one with which a layer becomes smaller. 3: rank 1000 is no fewer"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ArgumentError, match=said):
        compress(network(), **arguments)


def test_other_models_are_refused_by_name() -> None:
    with pytest.raises(UnknownNameError, match="layer: got '4', wanted one of 3, 5, 7"):
        compress(network(), rank={"4": 3})
    with pytest.raises(ArgumentError, match="model: got 'Sequential', wanted a model with fully connected layers"):
        compress(nn.Sequential(nn.Conv2d(1, 2, 3)), rank=1)
    broken = network()
    broken[3].weight.data[2, 2] = math.inf
    with pytest.raises(ArgumentError, match="layer '3' with weights that are not finite"):
        compress(broken, rank=3)
    described = spec_of(create_model("lenet5"))
    assert described is not None
    for ranks in ({"nowhere": 3}, {"0": 3}, {next(iter(dict(create_model("lenet5").named_children()))): "3"}):
        with pytest.raises(ArgumentError, match="ranks: got"):
            portable.rebuild(described.replace(ranks=ranks))


def test_by_the_command_line(tmp_path: Path) -> None:
    file = save(
        create_model("lenet5", in_channels=1, classes=10), tmp_path / "model.safetensors", data={"source": "digits"}
    )
    text = call_convscope("compress", file, "--rank", "6").output
    assert "compressed.safetensors: " in text
    assert "outputs × inputs" in text
    known = describe(tmp_path / "compressed.safetensors")
    assert known["data"] == {"source": "digits"}
    assert {row["rank"] for row in known["compression"]} == {6}
    call_convscope("compress", file, "--energy", "0.5", "-o", tmp_path / "half.safetensors", "--json")
    assert load(tmp_path / "half.safetensors")
    assert "both" in call_convscope("compress", file, "--rank", "6", "--energy", "0.5", code=2).stderr
    assert "--rank six" in call_convscope("compress", file, "--rank", "six", code=2).stderr
    assert "energy: got 2.0" in call_convscope("compress", file, "--energy", "2", code=2).stderr
