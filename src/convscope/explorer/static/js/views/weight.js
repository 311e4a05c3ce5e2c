// One weight of attention, down to the numbers that it is made of: softmax, the product of query and key, and each of
// their numbers as a sum.

import { h, num, replace } from "../core/dom.js";
import { short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { wordsAt } from "./sentence.js";
import { sumTable } from "./sum.js";

// `seen` is {layer, head, query, key}, with {which, channel} for a number of the query or of the key
export async function showWeight(app, box, seen) {
  const found = await app.connection.ask("weigh", { limit: 64, ...seen });
  const { layer, head, query, key } = seen;
  const [of, to] = [wordsAt(app, layer, [query]), wordsAt(app, found.weight.origins.at(-1), [key])];
  const place = (page, row) => page.terms.source[row][0];
  const number = (which, page, row) => () => showWeight(app, box, { ...seen, which, channel: place(page, row) });
  replace(box,
    h("h2", {}, t("weight_of", { head: head + 1, query: of || query, key: to || key })),
    part("weight", found.weight, { where: (row) => keyAt(app, found.weight, row), paddingText: t("masked") }),
    part("score", found.score, {
      where: (row) => `${place(found.score, row)}`, coefficientKind: "activation",
      onCoefficient: (row) => number("query", found.score, row), onValue: (row) => number("key", found.score, row),
    }),
    found.number ? part("number", found.number, { where: (row) => found.number.terms.source[row].join(" · ") }) : h("p.note", {}, t("weight_numbers")),
  );
  box.scrollIntoView({ block: "nearest" });
}

function part(id, page, options) {
  return h("div", { id: `attention-${id}` },
    h("div.result", {}, h("span.soft", {}, `${page.steps.at(-1).symbol} =`), num(page.value, { text: short(page.value, 6) })),
    h("div.formula", {}, page.formula), sumTable(page, options));
}

// Of a row that is about a key: its head, where there are several, and its word.
export function keyAt(app, page, row) {
  const key = page.terms.source[row][0];
  const word = wordsAt(app, page.origins[page.terms.origin[row]], [key]);
  const head = page.terms.at ? `${t("head_n", { head: page.terms.at[row][0] + 1 })} · ` : "";
  return `${head}${word || key}`;
}
