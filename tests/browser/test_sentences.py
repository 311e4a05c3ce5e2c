"""A sentence typed on the page, and a filter's sum with its words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.explorer.test_sentences import TYPED, classifier
from tests.explorer.test_translators import translator

from convscope.explorer import Handle, explore
from convscope.explorer.session import Session

pytestmark = pytest.mark.long


@pytest.fixture
def reader() -> Iterator[Handle]:
    with explore(classifier(double=False), port=0) as handle:
        yield handle


def typed(page: Any, text: str) -> None:
    page.fill("#sentence", text)
    page.keyboard.press("Enter")
    page.wait_for_function("text => convscope.store.get('frame')?.source?.text === text", arg=text)


def test_a_sentence_is_typed_and_its_words_stand_over_their_columns(visit: Callable[..., Any], reader: Handle) -> None:
    page = visit(reader)
    typed(page, TYPED)
    assert page.locator("#words .word").all_inner_texts() == TYPED.split()
    assert page.locator("#words .unknown").all_inner_texts() == ["xyzzy"]
    assert "xyzzy" in page.locator("#unknown-words").inner_text()
    page.evaluate("() => convscope.selection.select('conv4', 1, [1, 5])")
    page.wait_for_selector("table.sum tr.term")
    assert page.locator(".detail-head h2").inner_text() == "conv4 · map 1 · xyzzy film , and · (5)"
    page.evaluate("() => convscope.selection.select('conv4', 1, [1, 1])")  # begins before the first word
    page.wait_for_function("() => document.querySelector('.detail-head h2')?.textContent.includes('(1)')")
    assert page.locator(".detail-head h2").inner_text().startswith("conv4 · map 1 · ∅ ∅ ")
    page.evaluate("() => convscope.selection.select('conv4', 1, [1, 5])")
    page.wait_for_function("() => document.querySelector('.detail-head h2')?.textContent.includes('(5)')")
    assert isinstance(reader.session, Session)
    value = float(reader.session.snapshot.layers["conv4"].y[0, 1, 5])
    assert float(page.locator("#result [data-exact]").first.get_attribute("data-exact")) == pytest.approx(
        value, rel=1e-6
    )
    seen = {each.split()[0] for each in page.locator("table.sum td.where").all_inner_texts()[:12]}
    assert seen <= {"xyzzy", "film", ",", "and"}
    page.evaluate("() => convscope.selection.select('pool4', 1, [1])")
    best = int(reader.session.snapshot.layers["relu4"].y[0, 1].argmax())
    words = TYPED.split()
    read = " ".join(words[place] if 0 <= place < len(words) else "∅" for place in range(best - 3, best + 1))
    page.wait_for_function("read => document.querySelector('table.sum td.where')?.title?.startsWith(read)", arg=read)
    typed(page, "funny")  # another length: the layers have other shapes
    page.wait_for_function("() => convscope.model.input_shape[1] === 1")
    assert "text=funny" in page.url


def test_in_chinese(visit: Callable[..., Any], reader: Handle) -> None:
    page = visit(reader, "#/?lang=zh", lang="zh")
    typed(page, "xyzzy film")
    assert page.locator("#input-side h2").first.inner_text() == "句子"
    assert "不在模型词表里" in page.locator("#unknown-words").inner_text()


def test_a_weight_of_attention_is_opened_down_to_a_query_s_number(visit: Callable[..., Any]) -> None:
    with explore(translator(), port=0) as handle:
        page = visit(handle, "#/?text=two%20dogs&begun=zwei%20Hunde")
        assert page.locator("#words .word").all_inner_texts() == ["two", "dogs", "</s>", "<s>", "zwei", "Hunde"]
        page.evaluate("() => convscope.selection.select('decoder1.own', 1, [1, 2])")
        page.locator("table.sum button.number").first.click()
        page.wait_for_selector("#attention-weight table.sum")
        assert "masked" in page.locator("#attention-weight td.where").all_inner_texts()
        page.locator("#attention-score button.number").first.click()
        page.wait_for_selector("#attention-number table.sum")
        assert isinstance(handle.session, Session)
        weight = page.locator("#attention-weight .result [data-exact]").get_attribute("data-exact")
        assert 0 <= float(weight) <= 1
        page.click("#next-token")
        page.wait_for_function("() => convscope.model.input_shape[1] === 7 || document.querySelector('#notice')")
