"""Every operator with every option: outputs, gradients and statistics as torch computes them."""

from __future__ import annotations

import pytest
from tests.native import cases
from tests.native.comparing import ONE_LAYER, WHOLE_NETWORK, check, pictures, randomised

from convscope.native.network import NativeNetwork

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths:UserWarning")

#: These keep several layers' rounding.
DEEP = {"residual", "residual, pooled", "batch norm chain"}


@pytest.mark.parametrize("name", cases.ALL)
def test_training(name: str, any_engine: str) -> None:
    make, shape = cases.ALL[name]
    model = randomised(make()).train()
    check(model, pictures(17, shape), WHOLE_NETWORK if name in DEEP else ONE_LAYER)


@pytest.mark.parametrize("name", cases.ALL)
def test_evaluation(name: str, any_engine: str) -> None:
    make, shape = cases.ALL[name]
    model = randomised(make()).eval()
    check(model, pictures(3, shape), WHOLE_NETWORK if name in DEEP else ONE_LAYER)


@pytest.mark.parametrize("name", ["conv everything", "max padded ceil", "tanh", "lrn", "batch norm", "add", "linear"])
@pytest.mark.parametrize("count", [1, 15, 16, 33, 64])
def test_batch_sizes(name: str, count: int, any_engine: str) -> None:
    make, shape = cases.ALL[name]
    check(randomised(make()), pictures(count, shape), ONE_LAYER)


def test_a_wrong_answer_is_noticed(any_engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = randomised(cases.ALL["conv"][0]())
    right = NativeNetwork.run
    monkeypatch.setattr(NativeNetwork, "run", lambda *given: [y * (1 + 1e-4) for y in right(*given)])
    with pytest.raises(AssertionError, match="of the largest"):
        check(model, pictures(2, (3, 9, 7)), ONE_LAYER)
