"""What the server refuses is told in the page's language."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from convscope.explorer import Handle

ASK = """async ([op, args]) => {
  try {
    await convscope.connection.ask(op, args);
  } catch (error) {
    convscope.failed = error;
    return error.message;
  }
}"""
BAD = [
    ("values", {"layer": "c3", "map": 99}, "map：收到 99，需要 0…15"),
    ("values", {"layer": "c9", "map": 0}, "s4 之一。您是指 'c3' 或 'c1' 吗？"),
    ("poke", {"channel": 0, "row": 99, "column": 0, "value": 1}, "需要 (1, 28, 28) 之内的位置"),
    ("frame", {"layers": 5}, "需要 最多 1000 个文本的列表"),
    ("show_pixels", {}, "收到 0 字节"),
]


def test_refusals_on_a_chinese_page_are_chinese(visit: Callable[..., Any], lenet: Handle) -> None:
    page = visit(lenet, lang="zh")
    found = [page.evaluate(ASK, [op, args]) for op, args, _ in BAD]
    for (_, _, wanted), text in zip(BAD, found, strict=True):
        assert wanted in text
    page.set_input_files("#file", {"name": "a.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector("#notice:has-text('不是能读取的图像')")
    cut = io.BytesIO()
    Image.new("L", (50, 50)).save(cut, "PNG")
    page.set_input_files("#file", {"name": "b.png", "mimeType": "image/png", "buffer": cut.getvalue()[:60]})
    page.wait_for_selector("#notice:has-text('图像文件被截断')")
    page.problems.clear()  # the browser itself tells of the answer 422
    page.evaluate("() => document.querySelector('#language-button').click()")
    page.wait_for_function("() => document.documentElement.lang === 'en'")
    assert "got" in page.evaluate("() => convscope.failed.message")
