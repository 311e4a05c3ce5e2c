// A sum written out: the largest terms, the rest as one subtotal, what follows, and what rounding left over. The digits
// are chosen once for the whole table, and the gap of the printed numbers is printed too.

import { h, num } from "../core/dom.js";
import { digitsFor, fixed, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { after } from "../core/steps.js";

// options: {where(row) → text, light(row | null), onCoefficient(row), onValue(row) → what a click on that number does}
export function sumTable(page, options = {}) {
  const { terms } = page;
  const squared = !terms.coefficient;
  const plain = squared && page.headings[1] === page.headings[2];
  const largest = Math.max(...terms.product.map(Math.abs), 1e-300);
  const scale = Math.min(Math.abs(page.value) || Infinity, largest > 1e-12 ? largest : Infinity);
  const digits = Number.isFinite(scale) ? Math.min(10, Math.max(digitsFor(scale), 4)) : 4;
  const span = plain ? 1 : terms.coefficient ? 3 : 2;
  const rows = terms.product.map((product, row) => {
    const bar = h(`i${product < 0 ? ".minus" : ""}`);
    bar.style.width = `${Math.max(2, (Math.abs(product) / largest) * 100)}%`;
    const padding = terms.padding?.[row];
    return h(`tr.term`, {
      "data-row": row, onpointerenter: () => options.light?.(row), onpointerleave: () => options.light?.(null),
    },
      h("td.where", { title: options.where?.(row) ?? "" }, padding ? (options.paddingText ?? t("padding")) : (options.where?.(row) ?? "")),
      terms.coefficient ? h("td", {}, opened(options.onCoefficient?.(row), num(terms.coefficient[row], { text: short(terms.coefficient[row]), kind: options.coefficientKind ?? "weight" }))) : null,
      plain ? null : h("td", {}, opened(options.onValue?.(row), num(terms.value[row], { text: short(terms.value[row]), kind: options.valueKind ?? "activation" }))),
      h("td", {}, num(product, { text: fixed(product, digits) })),
      h("td.spark", { "aria-hidden": "true" }, bar),
    );
  });
  const printed = { total: terms.product.reduce((sum, value) => sum + round(value, digits), 0) };
  const line = (kind, label, value, text = fixed(value, digits)) => h(`tr.${kind}`, {}, h("td", { colSpan: span }, label), h("td", {}, num(value, { text })), h("td"));
  const body = [...rows];
  if (page.offset > 0) {
    body.unshift(line("rest", t("terms_before", { count: page.offset }), page.before));
    printed.total += round(page.before, digits);
  }
  const left = page.count - page.offset - page.shown;
  if (left > 0) {
    body.push(line("rest", t("more_terms", { count: left }), page.rest));
    printed.total += round(page.rest, digits);
  }
  const follows = page.steps;
  const simple = follows.every((step) => ["+", "−", "="].includes(step.operation));
  if (!simple && (page.count > 1 || !plain)) body.push(line("equals", `Σ ${page.headings[2]}`, page.sum));
  let running = page.sum;
  follows.forEach((step) => {
    if (step.operation === "=") {
      if (simple) {
        const gap = round(step.value, digits) - printed.total;
        if (Math.abs(gap) > 0.4 * 10 ** -digits) body.push(h("tr.gap", {}, h("td", { colSpan: span, title: t("gap_text") }, t("gap")), h("td", {}, num(gap, { text: fixed(gap, digits) })), h("td")));
      }
      body.push(line("equals", `= ${step.symbol}`, step.value, simple ? fixed(step.value, digits) : fixed(step.value, digits)));
      running = step.value;
      return;
    }
    running = after(running, step);
    if (simple) printed.total += step.operation === "−" ? -round(step.value, digits) : round(step.value, digits);
    const label = label_of(step);
    if (["f", "√", "^"].includes(step.operation)) body.push(line("step.worked", label, running, short(running, 6)));
    else body.push(h("tr.step", { title: `→ ${short(running, 6)}` }, h("td", { colSpan: span }, label), h("td", {}, num(step.value, { text: simple ? fixed(step.operation === "−" ? -step.value : step.value, digits) : short(step.value, 6) })), h("td")));
  });
  return h("table.sum", {},
    h("thead", {}, h("tr", {}, h("th", {}, t("from")), terms.coefficient ? h("th", {}, page.headings[0]) : null, plain ? null : h("th", {}, page.headings[1]), h("th", {}, page.headings[2]), h("th", {}, h("span.unseen", {}, t("size"))))),
    h("tbody", {}, body));
}

// A number that can be opened further is a button.
function opened(act, shown) {
  return act ? h("button.number", { type: "button", onclick: act }, shown) : shown;
}

function label_of(step) {
  switch (step.operation) {
    case "+":
      return `+ ${step.symbol}`;
    case "−":
      return `− ${step.symbol}`;
    case "×":
      return `× ${step.symbol}`;
    case "÷":
      return `÷ ${step.symbol}`;
    case "^":
      return `( · ) ^ ${short(step.value)}${/\d/.test(step.symbol) ? "" : `   (${step.symbol})`}`;
    case "√":
      return "√";
    default:
      return `${step.symbol}(·)`;
  }
}

function round(value, digits) {
  return Number(value.toFixed(digits));
}

export function pager(page, load) {
  const left = page.count - page.offset - page.shown;
  const buttons = [];
  if (page.offset > 0) buttons.push(h("button.button", { type: "button", onclick: () => load(0, 12) }, t("largest_terms")));
  if (left > 0) buttons.push(h("button.button", { type: "button", id: "more-terms", onclick: () => load(page.offset + page.shown, 100) }, t("next_terms", { count: Math.min(100, left) })));
  return buttons.length ? h("div.more", {}, buttons) : null;
}

// The same sum as a sheet to fill in by hand, with its key.
export function sheetButton(app, asked) {
  return h("button.button.small", {
    type: "button", className: "button small sheet-button", onclick: async () => {
      const { html } = await app.connection.ask("sheet", { ...asked, lang: app.store.get("lang") });
      const { save } = await import("./share.js");
      save(new Blob([html], { type: "text/html" }), "sheet.html");
    },
  }, t("sheet_button"));
}

export function copyButton(app, asked) {
  if (!app.model.can("snippet")) return null;
  return h("button.button.small", {
    type: "button", className: "button small copy-pytorch", onclick: async () => {
      const { code, needs_file: needsFile } = await app.connection.ask("snippet", asked);
      app.lastSnippet = code;
      const { copyText } = await import("./share.js");
      await copyText(code, t(needsFile ? "copied_needs_model" : "copied_pytorch"));
    },
  }, t("copy_pytorch"));
}
