// A sheet to fill in by hand: one number's sum with blanks, and the key on a page of its own, as HTML for A4 paper. The
// server's lessons/sheet.py writes the same of the same numbers.

import { fixed } from "../core/format.js";
import { t } from "../core/i18n.js";

const MARKS = { "+": "+ ", "−": "− ", "×": "× ", "÷": "÷ " };

// page: the answer to "explain"; about: {model, class}; shell: the document with its blanks; picture: a data address
export function sheet(page, place, about, picture, shell, language) {
  const { terms } = page;
  const digits = ["coefficient", "value", "product"].map((name) => decimals(terms[name] ?? []));
  const lines = after(page, digits[2]);
  const title = t("sheet_title", { symbol: symbolOf(page), place });
  const notes = [t("sheet_rounded", { products: digits[2] }), t("sheet_within", { bound: upwards(bound(page, digits), digits[2] + 1) })].map((text) => `<p>${escaped(text)}</p>`).join("");
  const head = `<p>${escaped(t("sheet_of", about))}</p><p class="formula">${escaped(page.formula)}</p>`;
  const part = (heading, key) => {
    const rows = terms.product.map((_, row) => term(page, row, digits, key)).join("");
    const rest = lines.map((line) => following(line, key, columns(page).filter(Boolean).length)).join("");
    const own = key ? "" : `<img src="${picture}" alt="${escaped(t("picture"))}"><p class="name">${escaped(t("sheet_name"))}</p>`;
    return `<section class="${key ? "key" : "blank"}">${own}<h1>${escaped(heading)}</h1>${head}<table><thead>${heads(page)}</thead><tbody>${rows}${rest}</tbody></table>${notes}</section>`;
  };
  const body = part(title, false) + part(`${title} · ${t("sheet_key")}`, true);
  return shell.replace("{{lang}}", () => language).replace("{{title}}", () => escaped(title)).replace("{{body}}", () => body);
}

const escaped = (text) => text.replace(/[&<>"']/g, (mark) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#x27;" })[mark]);

// What the number is called: as its last named step.
const symbolOf = ({ steps }) => steps.filter(({ operation }) => operation === "=").at(-1)?.symbol ?? "y";

// Which of coefficient, value and product the sum has.
function columns({ terms, headings }) {
  const coefficient = Boolean(terms.coefficient);
  return [coefficient, coefficient || headings[1] !== headings[2], true];
}

function heads(page) {
  const names = [t("from"), ...page.headings.filter((_, at) => columns(page)[at])];
  return `<tr>${names.map((name) => `<th>${escaped(name)}</th>`).join("")}</tr>`;
}

function term(page, row, digits, key) {
  const { terms } = page;
  const [coefficient, value] = columns(page);
  const cells = [`<td>${escaped(where(page, row))}</td>`];
  if (coefficient) cells.push(`<td>${fixed(terms.coefficient[row], digits[0])}</td>`);
  if (value) cells.push(`<td>${fixed(terms.value[row], digits[1])}</td>`);
  cells.push(key || !value ? `<td>${fixed(terms.product[row], digits[2])}</td>` : '<td class="gap"></td>');
  return `<tr>${cells.join("")}</tr>`;
}

function where({ terms, origins }, row) {
  if (terms.padding?.[row]) return t("padding");
  if (!terms.source) return "";
  const at = terms.source[row].filter((each) => each >= 0);
  const label = origins.length > 1 ? `${origins[terms.origin?.[row] ?? 0]} ` : "";
  return label + (at.length > 1 ? `${at[0]} · (${at.slice(1).join(", ")})` : at.join(""));
}

function following([label, value, given], key, span) {
  const cell = key || given ? `<td>${escaped(value)}</td>` : '<td class="gap"></td>';
  return `<tr class="line"><td colspan="${span}">${escaped(label)}</td>${cell}</tr>`;
}

// What follows the terms: their sum, the others, each step, the value; [label, text, given].
function after(page, digits) {
  const rows = [[t("sheet_these", { count: page.shown }), fixed(page.sum - page.rest, digits), false]];
  const left = page.count - page.shown;
  if (left) {
    rows.push([t("more_terms", { count: left }), fixed(page.rest, digits), true]);
    rows.push([`Σ ${page.headings[2]}`, fixed(page.sum, digits), false]);
  }
  for (const { operation, symbol, value } of page.steps) {
    if (MARKS[operation]) rows.push([`${MARKS[operation]}${symbol}`, fixed(value, Math.max(digits, decimals([value]))), true]);
    else if (operation === "=") rows.push([`= ${symbol}`, fixed(value, digits), false]);
    else if (operation === "f") rows.push([`${symbol}(·)`, fixed(value, digits), false]);
    else rows.push([operation === "^" ? `( · ) ^ ${fixed(value, 2)}` : "√", "", true]);
  }
  if (page.activation) rows.push([`${page.activation.kind}(${symbolOf(page)})`, fixed(page.activation.value, digits), false]);
  return rows;
}

// How far a hand calculation with the printed numbers, each product rounded, can be from the sum's own value.
function bound({ terms, shown, steps }, digits) {
  const half = 0.5 * 10 ** -digits[2];
  let total = half * (shown + 2);
  terms.coefficient?.forEach((w, row) => (total += Math.abs(Number(w.toFixed(digits[0])) * Number(terms.value[row].toFixed(digits[1])) - terms.product[row])));
  for (const { operation, value } of steps) {
    if (operation === "+" || operation === "−") total += half;
    else if (operation === "×") total = total * Math.abs(value) + half;
    else if (operation === "÷") total = total / Math.abs(value) + half;
  }
  return total;
}

// Decimal places that give the largest of the numbers four digits.
function decimals(values) {
  const largest = Math.max(0, ...values.map(Math.abs));
  if (!Number.isFinite(largest) || largest === 0) return 4;
  return Math.min(12, Math.max(3, 3 - Math.floor(Math.log10(largest))));
}

function upwards(value, digits) {
  return fixed(Math.ceil(value * 10 ** digits) / 10 ** digits, digits);
}
