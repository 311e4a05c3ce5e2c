"""A real Chromium on generated models: no request leaves this computer, and an error on the console fails the test."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from torch import nn

from convscope.data import Dataset, load_dataset
from convscope.explorer import Handle, explore
from convscope.models import create_model

CHROMIUM = os.environ.get("CONVSCOPE_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = ["--no-sandbox", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in Path(str(item.fspath)).parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="needs Chromium: install it, or set CONVSCOPE_CHROMIUM"))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """``visit(handle, hash="", size=…, lang=…)`` opens a page; at the end nothing may have gone wrong on any."""
    problems: list[str] = []
    contexts = []

    def open_page(
        handle: Handle,
        hash: str = "",
        *,
        size: tuple[int, int] = (1440, 900),
        lang: str = "en",
        theme: str = "light",
        motion: str = "reduce",
        tour: bool = False,
        expect: str = "true",
    ) -> Any:
        context = browser.new_context(
            **window(size, lang),
            color_scheme=theme,
            reduced_motion=motion,
            accept_downloads=True,
            permissions=["clipboard-read", "clipboard-write"],
        )
        contexts.append(context)

        def guard(route: Any) -> None:
            if urlsplit(route.request.url).hostname in ("127.0.0.1", "localhost"):
                route.continue_()
            else:
                problems.append(f"a request to {route.request.url}")
                route.abort()

        context.route("**/*", guard)
        page = context.new_page()

        def listen(message: Any) -> None:
            gone = "ERR_CONNECTION_REFUSED" in message.text and "/socket" in message.text  # the test ended its server
            if message.type == "error" and not gone:
                problems.append(message.text)

        page.on("console", listen)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{handle.url}{'' if tour else '&tour=0'}{hash}")
        page.wait_for_selector(f"body[data-ready='{expect}']")
        page.problems = problems
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture
def open_file(browser: Any) -> Iterator[Callable[..., Any]]:
    """``open_file(path, hash="", size=…, lang=…)`` opens a saved page with the network off; nothing may go wrong."""
    problems: list[str] = []
    contexts = []

    def open_page(
        path: Path, hash: str = "", *, size: tuple[int, int] = (1440, 900), lang: str = "en", ready: bool = True
    ) -> Any:
        context = browser.new_context(**window(size, lang), reduced_motion="reduce")
        contexts.append(context)
        context.set_offline(True)
        page = context.new_page()
        page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda request: problems.append(request.url) if outside(request.url) else None)
        page.goto(f"file://{path}{hash}")
        if ready:
            page.wait_for_selector("body[data-ready='true']")
        page.problems = problems
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert problems == []


def window(size: tuple[int, int], lang: str) -> dict[str, Any]:
    """Size and language of a window, as Playwright asks for them."""
    return {"viewport": {"width": size[0], "height": size[1]}, "locale": "zh-CN" if lang == "zh" else "en-US"}


def outside(address: str) -> bool:
    """Whether a request leaves the page's own file."""
    return not address.startswith(("file://", "data:", "blob:"))


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def trained(digits: Dataset) -> nn.Module:
    """LeNet-5 (ReLU, maxima) after 300 steps on scikit-learn's digits: sure of itself, as a trained network is."""
    torch.manual_seed(3)
    model = create_model("lenet5", activation="relu", pool="max")
    from convscope.data import prepare
    from convscope.spec import attach, spec_of

    preprocessing = digits.preprocessing(size=(28, 28), channels=1)
    found = spec_of(model)
    assert found is not None
    attach(model, found.replace(classes=tuple(digits.train.classes), preprocessing=preprocessing))
    x, labels = preprocessing.normalise(prepare(digits.train.images, preprocessing)), digits.train.labels
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for step in range(300):
        rows = torch.arange(step * 32, step * 32 + 32) % len(x)
        optimiser.zero_grad()
        torch.autograd.backward(nn.functional.cross_entropy(model(x[rows]), labels[rows]))
        optimiser.step()
    return model.eval()


@pytest.fixture
def lenet(trained: nn.Module, digits: Dataset) -> Iterator[Handle]:
    """The explorer on a copy of the trained network, fresh for every test."""
    with explore(copy.deepcopy(trained), digits, port=0) as handle:
        yield handle
