// A unit's value, or its δ, as the complete sum.

import { h, num, replace, say } from "../core/dom.js";
import { short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { wordsAt } from "./sentence.js";
import { keyAt, showWeight } from "./weight.js";
import { copyButton, pager, sheetButton, sumTable } from "./sum.js";

const explained = { offset: 0, limit: 12 };
const told = { text: "", place: "" };
const placeOf = () => document.body.dataset.shown?.split("/").slice(1).join("/"); // of the panel that stands

export async function showArithmetic(app, body, direction, { offset, limit } = explained) {
  const { layer, map, unit, rule } = app.store.state;
  const { frame } = app.store.state;
  if (direction === "backward" && frame.loss === null) {
    replace(body, h("p.note", {}, t("no_loss")));
    return;
  }
  const page = await app.connection.ask("explain", { layer, index: unit, direction, rule, offset, limit });
  const back = direction === "backward";
  const symbol = back ? "δ" : page.family === "activation" ? "y" : (page.steps.at(-1)?.symbol ?? "y");
  const node = app.model.byName.get(layer);
  const load = (from, count) => showArithmetic(app, body, direction, { offset: from, limit: count });
  const options = {
    where: (row) => where(app, page, row),
    light: (row) => light(app, page, row),
    coefficientKind: page.family === "loss" ? "activation" : "weight",
    valueKind: back && page.family !== "loss" ? "delta" : "activation",
  };
  const weight = h("div", { id: "attention" });
  if (page.family === "attention" && !back && app.model.can("weigh")) {
    Object.assign(options, {
      where: (row) => keyAt(app, page, row), paddingText: t("masked"),
      onCoefficient: (row) => () => showWeight(app, weight, { layer, head: page.terms.at[row][0], query: unit[0], key: page.terms.source[row][0] }),
    });
  }
  const lastStep = page.steps.filter((step) => step.operation === "f").at(-1);
  replace(body,
    h("div.result", { id: "result" }, h("span.soft", {}, `${symbol} =`), num(page.value, { text: short(page.value, 6), kind: back ? "delta" : "" }),
      page.activation ? h("span", {}, h("span.soft", {}, `→ ${page.activation.kind} = `), num(page.activation.value, { text: short(page.activation.value, 6) })) : null),
    h("div.formula", {}, page.formula, page.family === "activation" && lastStep ? `,  f = ${lastStep.symbol}` : ""),
    back ? ruleSwitch(app, page) : null,
    page.through ? h("p.note", {}, t("through", { layer: page.through })) : null,
    ...page.silent.map(([name, why]) => h("p.note", {}, t(`silent_${why}`, { layer: name }))),
    !back && ["affine_grid", "grid_sample"].includes(page.family) ? h("p.note", {}, t(`looks_${page.family}`)) : null,
    page.note === "linearised" ? h("p.note", {}, t("linearised")) : null,
    h("p.small.soft", {}, counts(page)),
    sumTable(page, options),
    pager(page, load),
    options.onCoefficient ? h("p.note", {}, t("attention_text")) : null,
    weight,
    h("div.more", {},
      app.model.sentences ? null : sheetButton(app, { layer, index: unit, direction, rule }),
      copyButton(app, { kind: back ? "delta" : "activation", layer, index: unit, rule }),
      back || !page.activation ? null : h("button.button.small", { type: "button", onclick: () => app.selection.select(page.activation.layer, app.store.get("map"), unit) }, t("to_activation")),
      h("button.button.small", { type: "button", onclick: () => app.store.set({ tab: "field" }) }, t("tab_field"))),
    back ? h("p.note", {}, t(page.family === "loss" ? "loss_delta_text" : "delta_text")) : null,
  );
  if ((page.direction === "forward" && !node.shape.length) || app.lesson?.covered) return;
  const sum = page.count === 1 ? t("say_one_term") : t("say_terms", { count: page.count });
  const text = `${t(back ? "say_delta" : "say_unit", { layer, unit: unit.join(", "), value: short(page.value) })}${sum}`;
  if (text !== told.text || told.place !== placeOf()) say(text); // once, where the panel is only drawn anew
  Object.assign(told, { text, place: `${app.store.get("tab")}/${layer}/${map ?? ""}/${unit.join(",")}` });
}

function counts(page) {
  const terms = page.count === 1 ? t("one_term") : t("terms_n", { count: page.count });
  return page.padding_count ? `${terms} ${t("of_them_padding", { count: page.padding_count })}` : terms;
}

function ruleSwitch(app, page) {
  if (!["plain", "deconv", "guided"].includes(page.note)) return null;
  const { rule } = app.store.state;
  return h("div.segments", { role: "group", "aria-label": t("backward_rule") }, ["plain", "deconv", "guided"].map((each) =>
    h("button", { type: "button", id: `rule-${each}`, "aria-pressed": String(each === rule), onclick: () => app.store.set({ rule: each }) }, t(`rule_${each}`))));
}

export function where(app, page, row) {
  const { source, origin } = page.terms;
  if (!source) return "";
  const place = source[row].filter((at) => at >= 0 || page.terms.padding?.[row]);
  const name = page.origins[origin?.[row] ?? 0];
  const label = page.origins.length > 1 ? `${name} ` : "";
  const words = app.model.sentences && place.length ? wordsAt(app, name, place) : "";
  return `${label}${words ? `${words} ` : ""}${place.length > 1 ? `${place[0]} · (${place.slice(1).join(", ")})` : place.join("")}`;
}

// A row of the table under the pointer lights its cell in the grids on the board.
function light(app, page, row) {
  let litTerm = null;
  const apart = app.selection.current;
  if (row !== null && page.direction === "forward" && page.terms.weight && apart?.window) {
    const map = page.terms.source[row][0];
    const panel = apart.panels.find((each) => each.role === "source" && each.map === map);
    if (panel) {
      const size = apart.window.kernel.length === 1 ? [1, ...apart.window.kernel] : apart.window.kernel;
      let place = page.terms.weight[row].slice(-apart.window.kernel.length);
      if (apart.flip) place = place.map((at, d) => apart.window.kernel[d] - 1 - at);
      if (place.length === 1) place = [0, ...place];
      litTerm = { row: panel.row, k: place[0] * size[1] + place[1] };
      app.store.set({ row: panel.row });
    }
  }
  app.store.set({ litTerm });
}
