// A number written out as the page draws it: the largest terms, the rest as a subtotal, the steps to the value.

import { after } from "../core/steps.js";
import { total } from "./tensor.js";

const COLUMNS = ["coefficient", "value", "product", "source", "origin", "weight", "at", "padding"];

export const line = (operation, symbol, value, note = "") => ({ operation, symbol, value, note });

// found: {layer, direction, family, index, formula, headings, terms: [row], steps, value, origins, …}
export function page(found, offset = 0, limit = 24) {
  const size = (row) => (row.padding ? -1 : Math.abs(row.product));
  const ordered = found.terms.map((row, place) => [row, place]).sort((a, b) => size(b[0]) - size(a[0]) || a[1] - b[1]).map(([row]) => row);
  const shown = ordered.slice(offset, offset + limit);
  const terms = {};
  for (const name of COLUMNS) {
    if (found.terms.length ? found.terms[0][name] !== undefined : name === "product") terms[name] = shown.map((row) => row[name]);
  }
  const sum = total(found.terms.map((row) => row.product));
  return {
    through: null, note: "", parameter: null, origins: [], silent: [], ...found, terms,
    term_parameter: found.terms[0]?.weight ? "weight" : null,
    offset, shown: shown.length, count: ordered.length,
    padding_count: ordered.filter((row) => row.padding).length,
    before: total(ordered.slice(0, offset).map((row) => row.product)),
    rest: total(ordered.slice(offset + shown.length).map((row) => row.product)),
    sum, computed: found.steps.reduce(after, sum),
  };
}
