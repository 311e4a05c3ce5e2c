"""Feature 1: any model opens as it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tests.browser.pages import select, settle
from tests.explorer.fixtures import MODELS

from convscope.errors import CheckpointError
from convscope.explorer import explore, serve
from convscope.explorer.session import Session
from convscope.explorer.unopened import unopened_file
from convscope.models import create_model
from convscope.models.modelfile import load

#: One of each kind of panel; that every model opens is tested without a browser in ``tests/explorer``.
AT_ONCE = ("branching", "residual", "dense_only", "non_square", "detector")


@pytest.mark.parametrize(
    "name", [name if name in AT_ONCE else pytest.param(name, marks=pytest.mark.long) for name in MODELS]
)
def test_twelve_kinds_of_networks_open(visit: Callable[..., Any], name: str) -> None:
    torch.manual_seed(4)
    model = MODELS[name]()
    with explore(model, port=0) as handle:
        page = visit(handle)
        assert isinstance(handle.session, Session)
        nodes = page.evaluate("() => convscope.model.nodes.map((node) => [node.name, node.shape])")
        assert [node[0] for node in nodes] == list(handle.session.network.nodes)
        assert len(page.locator("#heads button").all()) == len(nodes) + 1
        logits = page.evaluate("() => convscope.store.get('frame').logits")
        with torch.no_grad():
            y = model(handle.session.snapshot.question.x)
        if y.ndim == 2:
            torch.testing.assert_close(torch.tensor(logits), y[0], rtol=1e-5, atol=1e-5)
        else:
            assert page.locator("#verdict").inner_text().strip()
        for layer, shape in nodes:
            select(page, layer, shape[0] // 2, [side // 2 for side in shape])
            settle(page, 30)
            assert page.locator("#tab-body table.sum, #tab-body p").count()


@pytest.mark.parametrize("lang", [pytest.param("en", marks=pytest.mark.long), "zh"])
def test_a_file_without_description_gives_a_card_in_both_languages(
    visit: Callable[..., Any], tmp_path: Path, lang: str
) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(create_model("lenet5").state_dict(), path)
    with pytest.raises(CheckpointError) as refusal:
        load(path)
    with serve(unopened_file(path, refusal.value), port=0) as handle:
        page = visit(handle, lang=lang, expect="card")
        text = page.locator("#card").inner_text()
        assert "weights.safetensors holds weights" in text
        assert "没有说明属于哪个网络" in text
        assert "convscope explore weights.safetensors --model lenet5" in text
        assert "c1.weight" in text
        reasons = page.locator("#card section > p.small").all_inner_texts()
        english, chinese = reasons if lang == "en" else reversed(reasons)
        assert "it holds weights alone (10 tensors" in english
        assert "文件里只有权重（10 个张量" in chinese
        assert "Say whose weights" not in chinese
        first = page.locator("#card section").first.get_attribute("lang")
        assert first == ("zh-CN" if lang == "zh" else "en")


def test_a_layer_of_unknown_kind_is_shown_by_its_derivative(visit: Callable[..., Any]) -> None:
    class Strange(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.sigmoid(x.mean())

    from tests.explorer.fixtures import plain

    from convscope.data import Dataset

    model = torch.nn.Sequential(Strange(), plain())
    data = Dataset.from_arrays(torch.randint(0, 255, (12, 3, 12, 12), dtype=torch.uint8), torch.arange(12) % 4)
    with explore(model, data, port=0) as handle:
        page = visit(handle)
        name = next(iter(handle.session.network.nodes))  # type: ignore[union-attr]
        select(page, name, 0, [0, 3, 3] if len(handle.session.network.nodes[name].shape) == 3 else None)  # type: ignore[union-attr]
        assert page.locator("#tab-body").inner_text().strip()
