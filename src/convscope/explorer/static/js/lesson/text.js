// A teacher's text: paragraphs apart by an empty line, **strong** and `formulas`; never markup.

import { h } from "../core/dom.js";

export function paragraphs(text, apart = true) {
  const parts = text.trim().split(/\n\s*\n/).map((part) => inline(part.replace(/\s*\n\s*/g, gap)));
  return apart ? parts.map((part) => h("p", {}, part)) : parts.flat();
}

// Lines of one paragraph are joined; between two Chinese characters without a space.
function gap(match, at, whole) {
  const wide = /[\u3000-\u9fff\uff00-\uffef]/;
  return wide.test(whole[at - 1] ?? "") || wide.test(whole[at + match.length] ?? "") ? "" : " ";
}

function inline(text) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`)/).map((part) => {
    if (/^\*\*.+\*\*$/.test(part)) return h("strong", {}, part.slice(2, -2));
    if (/^`.+`$/.test(part)) return h("code", {}, part.slice(1, -1));
    return part;
  });
}
