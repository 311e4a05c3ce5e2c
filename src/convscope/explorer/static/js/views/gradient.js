// One weight: its gradient as the sum over every place where it was used, and a nudge that shows that it is true.

import { h, num, replace } from "../core/dom.js";
import { short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { palette } from "../draw/palette.js";
import { copyButton, pager, sheetButton, sumTable } from "./sum.js";
import { where } from "./arithmetic.js";

export async function showGradient(app, body, { offset = 0, limit = 12 } = {}) {
  const { layer, frame } = app.store.state;
  const node = app.model.byName.get(layer);
  const names = Object.keys(node.parameters);
  if (!names.length) {
    replace(body, h("p.note", {}, t("no_weights")));
    return;
  }
  if (frame.loss === null) {
    replace(body, h("p.note", {}, t("no_loss")));
    return;
  }
  const weight = chosenWeight(app, node);
  const { map } = app.store.state;
  const own = ownMap(node, weight);
  if (map !== null && own !== null && own !== map) { // the board shows the map that the weight feeds, at the same place
    const { unit } = app.store.state;
    app.selection.select(layer, own, unit && [own, ...unit.slice(1)]);
  }
  // The input whose kernel the weight is of: the board opens its window.
  app.store.set({ weighed: weight.parameter === "weight" ? weight.index.slice(0, -2).join() : null });
  const chooser = picker(app, node, weight);
  const page = await app.connection.ask("explain", { layer, index: weight.index, parameter: weight.parameter, direction: "gradient", offset, limit });
  const value = await app.connection.ask("values", { layer, quantity: "weight", parameter: weight.parameter, map: weight.index[0] ?? 0 });
  const shape = node.parameters[weight.parameter];
  const at = weight.index.slice(1).reduce((sum, index, d) => sum * shape[d + 1] + index, 0);
  const w = new Float32Array(value.bytes.buffer, value.bytes.start)[at];
  const result = h("dl.pairs", { id: "nudge-result" });
  replace(body,
    chooser,
    h("div.result", { id: "result" }, h("span.soft", {}, "∂J/∂w ="), num(page.value, { text: short(page.value, 6), kind: "gradient" })),
    h("p.small", {}, h("span.soft", {}, "w = "), num(w, { text: short(w, 6), kind: "weight" })),
    h("div.formula", {}, page.formula),
    h("p.small.soft", {}, page.count === 1 ? t("one_term") : t("gradient_terms", { count: page.count })),
    sumTable(page, { where: (row) => where(app, { ...page, origins: [layer] }, row), light: (row) => light(app, page, row), coefficientKind: "activation", valueKind: "delta" }),
    pager(page, (from, count) => showGradient(app, body, { offset: from, limit: count })),
    h("div.more", {}, nudgeControls(app, layer, weight, result)),
    result,
    h("div.more", {}, sheetButton(app, { layer, index: weight.index, direction: "gradient", parameter: weight.parameter }), copyButton(app, { kind: "gradient", layer, index: weight.index, parameter: weight.parameter }),
      h("button.button.small", { type: "button", onclick: () => app.store.set({ tab: "training" }) }, t("tab_training"))),
  );
}

export function chosenWeight(app, node) {
  const { weight, map } = app.store.state;
  const fits = weight && node.parameters[weight.parameter];
  if (fits && weight.index.length === fits.length && weight.index.every((at, d) => at < fits[d])) return weight;
  const parameter = node.parameters.weight ? "weight" : Object.keys(node.parameters)[0];
  const shape = node.parameters[parameter];
  const first = map !== null && map < shape[0] ? map : 0;
  const index = shape.map((side, d) => (d === 0 ? first : d >= shape.length - 2 && shape.length > 2 ? Math.floor(side / 2) : 0));
  return { parameter, index };
}

// The output map that a parameter's entry belongs to; null where the first index does not count maps.
function ownMap(node, { parameter, index }) {
  if (node.connections.kind === "table" && parameter === "weight") return node.connections.maps.findIndex((maps, map) => index[0] < node.connections.maps.slice(0, map + 1).reduce((sum, each) => sum + each.length, 0));
  return index.length && node.parameters[parameter][0] === node.shape[0] ? index[0] : null;
}

export function picker(app, node, weight) {
  const shape = node.parameters[weight.parameter];
  const change = (parameter, index) => app.store.set({ weight: { parameter, index } });
  const names = Object.keys(node.parameters);
  return h("div.indices", { role: "group", "aria-label": t("which_weight") },
    h("label.field", {}, t("parameter"), h("select", { id: "weight-parameter", onchange: (event) => change(event.target.value, node.parameters[event.target.value].map(() => 0)) }, names.map((name) => h("option", { value: name, selected: name === weight.parameter }, name)))),
    shape.map((side, d) => h("label.field", {}, axisName(shape, d), h("input", {
      type: "number", className: "weight-index", min: "0", max: String(side - 1), value: String(weight.index[d]),
      onchange: (event) => {
        const at = Math.min(side - 1, Math.max(0, Math.round(Number(event.target.value) || 0)));
        const now = chosenWeight(app, node); // another field may have been changed since this one was drawn
        change(now.parameter, now.index.map((each, k) => (k === d ? at : each)));
      },
    }))),
  );
}

function axisName(shape, d) {
  if (shape.length === 4) return [t("axis_out"), t("axis_in"), t("axis_row"), t("axis_column")][d];
  if (shape.length === 2) return [t("axis_out"), t("axis_in")][d];
  return `${t("axis")} ${d}`;
}

function nudgeControls(app, layer, weight, result) {
  const epsilon = h("select", { id: "epsilon", "aria-label": "ε" }, [0.001, 0.01, 0.1].map((value) => h("option", { value: String(value) }, `ε = ${value}`)));
  const act = async () => {
    const found = await app.connection.ask("nudge", { layer, parameter: weight.parameter, index: weight.index, epsilon: Number(epsilon.value) });
    const row = (name, value, kind = "") => [h("dt", {}, name), h("dd", {}, num(value, { text: short(value, 6), kind }))];
    replace(result, row(t("loss_before"), found.before), row(t("loss_after"), found.after), row(t("change_true"), found.change), row("g · ε", found.predicted, "gradient"));
  };
  return [epsilon, h("button.button", { type: "button", id: "nudge", onclick: act }, t("nudge"))];
}

// One term under the pointer lights the two places that it multiplies.
function light(app, page, row) {
  const lights = [];
  if (row !== null && app.selection.current && page.terms.at) {
    const [sourceMap, ...input] = page.terms.at[row];
    const [outMap, ...output] = page.terms.source[row];
    for (const hit of app.hits) {
      const { panel } = hit;
      const mine = panel.role === "source" && panel.map === sourceMap && !panel.unfold ? input : panel.role === "out" && panel.map === outMap ? output : null;
      if (!mine || mine.length < 1) continue;
      const cell = mine.length === 1 ? [0, mine[0]] : mine;
      lights.push({ ...app.pointer.area(hit, cell, [1, 1]), colour: panel.role === "out" ? palette.delta : palette.warn, width: 2.5 });
    }
  }
  app.store.set({ lights });
}
