// What if: a weight, a kernel or a whole map changed, the answer before and after, and the way back.

import { h, num, replace, say } from "../core/dom.js";
import { percent } from "../core/format.js";
import { t } from "../core/i18n.js";
import { chosenWeight, picker } from "./gradient.js";

export async function showSurgery(app, body) {
  const { layer, map } = app.store.state;
  const node = app.model.byName.get(layer);
  const now = await app.connection.ask("edits");
  const parameters = node ? Object.keys(node.parameters) : [];
  const act = async (op, args) => {
    await app.connection.ask(op, args);
    await app.frames.refresh();
    await app.ondetail();
    say(t(op === "undo" ? "surgery_undone" : "surgery_done", { name: app.model.className(app.store.get("frame").predicted) }));
  };
  replace(body,
    h("p", {}, t("surgery_text")),
    parameters.length ? tools(app, node, map, act) : h("p.note", {}, t("surgery_choose")),
    h("h2", {}, t("surgery_edits")),
    now.edits.length
      ? [h("ol.beats", { id: "edits" }, now.edits.map((text, index) => h("li", {}, h("span.mark", {}, String(index + 1)), h("span.num", {}, text), h("span")))),
        h("div.row", {}, h("button.button.primary", { type: "button", id: "undo", onclick: () => act("undo", {}) }, t("surgery_undo")),
          h("button.button", { type: "button", id: "undo-all", onclick: () => act("undo", { all: true }) }, t("surgery_undo_all")))]
      : h("p.small.soft", { id: "edits" }, t("surgery_none")),
    h("p.small", {}, h("span.soft", {}, `${t("hash_text")} `), h("span.hash", { id: "surgery-hash" }, `# ${now.hash}`)),
    now.before?.probabilities ? [h("h2", {}, t("surgery_answer")), compare(app, now)] : null,
    h("p.note", {}, t("surgery_note")),
  );
}

function tools(app, node, map, act) {
  const weight = chosenWeight(app, node);
  const shape = node.parameters[weight.parameter];
  const value = h("input", { type: "number", id: "surgery-value", step: "0.1", value: "0" });
  const set = (index, action = "set", number = Number(value.value)) => act("edit", { layer: node.name, parameter: weight.parameter, index, action, value: number });
  const text = (index) => `${weight.parameter}[${index.join(", ")}]`;
  return h("div", { id: "surgery-tools" },
    picker(app, node, weight),
    h("div.row", {}, h("label.field", {}, t("surgery_value"), value),
      h("button.button", { type: "button", id: "set-weight", onclick: () => set(weight.index) }, t("surgery_set", { place: text(weight.index) }))),
    h("div.row", {},
      shape.length > 2 ? h("button.button", { type: "button", id: "zero-kernel", onclick: () => set(weight.index.slice(0, 2), "set", 0) }, t("surgery_zero_kernel", { place: text(weight.index.slice(0, 2)) })) : null,
      shape.length > 2 ? h("button.button", { type: "button", id: "flip-kernel", onclick: () => set(weight.index.slice(0, 2), "scale", -1) }, t("surgery_flip_kernel", { place: text(weight.index.slice(0, 2)) })) : null,
      map !== null ? h("button.button", { type: "button", id: "silence", onclick: () => act("edit", { layer: node.name, action: "silence", map }) }, t("surgery_silence", { map: app.model.mapName(node.name, map) })) : null));
}

function compare(app, { before, after }) {
  const both = after.probabilities.map((will, index) => [index, before.probabilities[index], will]);
  both.sort((a, b) => Math.max(b[1], b[2]) - Math.max(a[1], a[2]));
  return h("div.compare", { id: "surgery-compare" }, both.slice(0, 5).flatMap(([index, was, will]) => {
    const a = h("span.was");
    const b = h("span.will");
    a.style.width = `${was * 100}%`;
    b.style.width = `${will * 100}%`;
    return [h("span", {}, app.model.className(index)), h("span.track", {}, a, b), num(was, { text: percent(was) }), num(will, { text: `→ ${percent(will)}`, kind: "delta" })];
  }));
}

