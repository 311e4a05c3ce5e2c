// Of a detector: the boxes it finds, which of them fell to which, and one box's way back from its score to the features.

import { h, num, replace, say } from "../core/dom.js";
import { count, percent, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { overviewWith } from "./field.js";

const state = { model: null, score: null, overlap: null, told: null };
const EDGES = ["x", "y", "w", "h"];

export async function showBoxes(app, body) {
  const { detector } = app.model;
  if (state.model !== app.model) Object.assign(state, { model: app.model, score: detector.shown, overlap: detector.overlap });
  const limits = app.store.get("boxes")?.split(",").map(Number) ?? [];
  if (limits.length === 2 && limits.every((each) => each >= 0 && each <= 1)) [state.score, state.overlap] = limits;
  const inside = h("div", { id: "boxes" });
  const ask = (op, more = {}) => app.connection.ask(op, { score: state.score, overlap: state.overlap, ...more });
  const draw = () => replace(inside, ...told(app, state.told, choose));
  const choose = async (row) => {
    state.told = await ask("choose_box", { region: row.region, label: row.label });
    say(t("boxes_chosen", { name: nameOf(app, row), score: percent(row.score) }));
    draw();
    inside.querySelector(`[data-box='${keyOf(row)}']`)?.focus();
    await app.frames.refresh();
  };
  const slider = (name, step) => {
    const shown = h("span.num", { id: `boxes-${name}-now` }, state[name].toFixed(2));
    return h("label.field", {}, t(`boxes_${name}`), h("input", { type: "range", id: `boxes-${name}`, min: "0", max: "1", step, value: String(state[name]), oninput: async (event) => {
      state[name] = Number(event.target.value);
      app.store.set({ boxes: `${state.score},${state.overlap}` });
      shown.textContent = state[name].toFixed(2);
      state.told = await ask("boxes");
      draw();
    } }), shown);
  };
  state.told = await ask("boxes");
  replace(body, h("p", {}, t("boxes_text")), slider("score", "0.01"), slider("overlap", "0.01"), inside);
  draw();
}

const keyOf = (row) => `${row.region}/${row.label}`;
const nameOf = (app, row) => app.model.detector.classes[row.label];

function told(app, found, choose) {
  const chosen = keyOf(found.chosen);
  const pick = (row, text, place = null) => h("button.button.small", {
    type: "button", id: `box-${keyOf(row)}`, "data-box": keyOf(row), "data-place": place, "aria-pressed": String(keyOf(row) === chosen), onclick: () => choose(row),
  }, text);
  const list = found.boxes.map((row, place) => pick(row, `${place + 1} ${nameOf(app, row)} ${row.score.toFixed(2)}`, place));
  const fallen = found.suppressed.filter((row) => row.by !== null).map((row) => h("tr.term", {},
    h("td", {}, pick(row, `${nameOf(app, row)} ${row.score.toFixed(2)}`)), h("td", {}, `#${row.by + 1}`), h("td", {}, num(row.overlap, { text: row.overlap.toFixed(3) }))));
  return [
    h("p.small.soft", { id: "boxes-count", "data-exact": String(found.boxes.length) }, t("boxes_found", { count: found.boxes.length, regions: count(found.regions) })),
    picture(app, found, chosen),
    found.boxes.length ? h("div.more", { id: "boxes-list", role: "group", "aria-label": t("tab_boxes") }, list) : h("p.note", {}, t("boxes_none")),
    h("h2", {}, t("boxes_chain", { name: nameOf(app, found.chosen) })),
    ...chain(app, found.chosen),
    fallen.length ? h("details", {}, h("summary", {}, t("boxes_fallen", { count: fallen.length })), h("table.sum", { id: "boxes-fallen" }, h("thead", {}, h("tr", {}, h("th", {}, t("boxes_box")), h("th", {}, t("boxes_by")), h("th", {}, "IoU"))), h("tbody", {}, fallen))) : null,
  ];
}

// The picture with all boxes; the chosen one thick, its region with the bins dashed.
function picture(app, found, chosen) {
  const source = app.frames.picture;
  const canvas = h("canvas", { id: "boxes-picture", role: "img", "aria-label": t("boxes_found", { count: found.boxes.length, regions: count(found.regions) }) });
  const factor = Math.max(1, Math.round(640 / source.width));
  Object.assign(canvas, { width: source.width * factor, height: source.height * factor });
  const pen = canvas.getContext("2d");
  const style = getComputedStyle(document.documentElement);
  pen.imageSmoothingEnabled = false;
  pen.drawImage(source, 0, 0, canvas.width, canvas.height);
  const halo = style.getPropertyValue("--paper"); // a line of one colour is lost on a picture that has it, too
  const frame = ([x1, y1, x2, y2], colour, width, dash = []) => {
    for (const line of width > 1 ? [[halo, width + 2.5], [colour, width]] : [[colour, width]]) {
      [pen.strokeStyle, pen.lineWidth] = line;
      pen.setLineDash(dash);
      pen.strokeRect(x1 * factor, y1 * factor, (x2 - x1) * factor, (y2 - y1) * factor);
    }
  };
  for (const row of found.boxes) frame(row.box, style.getPropertyValue("--activation"), keyOf(row) === chosen ? 5 : 2);
  const { roi, pooling, clipped } = found.chosen;
  const [x1, y1, x2, y2] = roi;
  const [rows, columns] = pooling.kind === "warp" ? [1, 1] : pooling.bins;
  const warn = style.getPropertyValue("--warn");
  for (let row = 0; row < rows; row++) for (let column = 0; column < columns; column++) {
    frame([x1 + ((x2 - x1) * column) / columns, y1 + ((y2 - y1) * row) / rows, x1 + ((x2 - x1) * (column + 1)) / columns, y1 + ((y2 - y1) * (row + 1)) / rows], warn, 0.7);
  }
  frame(roi, warn, 2, [6, 4]);
  frame(clipped, style.getPropertyValue("--accent"), 3);
  return canvas;
}

function chain(app, chosen) {
  const { anchor, pooling } = chosen;
  const steps = [];
  let step = 0;
  const add = (key, values, ...more) => steps.push(h("p.step", {}, `${(step += 1)}. ${t(key, values)}`), ...more);
  const show = (layer, map, unit) => {
    app.selection.select(layer, map, unit);
    app.store.set({ tab: "forward" });
  };
  const seen = async () => overviewWith(app, { ...(await app.connection.ask("box_field")), text: "boxes_field_text" });
  if (anchor) add("boxes_anchor", { place: count(anchor.place) }, h("p.formula", {}, "p = 1 / (1 + exp(−z)) = ", num(anchor.probability), ", ", together("z = ", num(anchor.logit))), decoding(anchor.decoding, "boxes-anchor"));
  add("boxes_region", {}, numbers("boxes-region", chosen.roi),
    h("div.row", {}, h("button.button.small", { type: "button", id: "boxes-field", onclick: seen }, t("boxes_field"))));
  add(`boxes_pool_${pooling.kind}`, { rows: pooling.bins[0], columns: pooling.bins[1] },
    h("div.row", {}, h("button.button.small", { type: "button", id: "boxes-pool", onclick: () => show(pooling.layer, 0, [0, 0, 0]) }, t("boxes_cell"))));
  add(app.model.detector.margins ? "boxes_margins" : "boxes_softmax", {}, h("table.sum", { id: "boxes-scores" }, h("thead", {}, h("tr", {}, h("th", {}, t("boxes_class")), h("th", {}, "z"), h("th", {}, "p"))), h("tbody", {}, chosen.scores.map((z, k) => h(`tr.term${k === chosen.label + 1 ? ".lit-row" : ""}`, {}, h("td", {}, app.model.className(k)), h("td", {}, num(z)), h("td", {}, num(chosen.probabilities[k])))))),
    h("div.row", {}, h("button.button.small", { type: "button", id: "boxes-score-sum", onclick: () => show("cls_score", chosen.label + 1, [chosen.label + 1]) }, t("boxes_score_sum"))));
  add("boxes_regression", {}, h("table.sum", { id: "boxes-regression" }, h("tbody", {}, chosen.regression.map((row, k) => h("tr.term", {}, h("td", {}, `d${EDGES[k]} =`),
    h("td", {}, row.terms.map((term) => `${short(term.w, 3)}·${short(term.x, 3)}`).join(" + "), ` + ${t("boxes_more", { count: row.more })} `, num(row.rest, { text: short(row.rest, 3) }), " + b ", num(row.bias, { text: short(row.bias, 3) })), h("td", {}, num(row.value)))))));
  add("boxes_decoding", {}, h("p.formula", {}, "x = P_w·σ·d + P_x,  w = P_w·exp(σ·d)"), decoding(chosen.decoding, "boxes-decoding"));
  add("boxes_clipped", {}, numbers("boxes-clipped", chosen.clipped));
  add(chosen.kept ? "boxes_kept" : "boxes_left_out", { overlap: state.overlap.toFixed(2), score: state.score.toFixed(2) });
  return steps;
}

function decoding(rows, id) {
  return h("table.sum", { id }, h("thead", {}, h("tr", {}, h("th", {}, ""), h("th", {}, "P"), h("th", {}, "d"), h("th", {}, "σ"), h("th", {}, "="))),
    h("tbody", {}, rows.map((row, k) => h("tr.term", {}, h("td", {}, EDGES[k]), h("td", {}, num(row.region)), h("td", {}, num(row.difference)), h("td", {}, num(row.deviation)), h("td", {}, num(row.result))))));
}

// A name and its number stand on one line.
function together(...parts) {
  return h("span.together", {}, parts);
}

function numbers(id, box) {
  return h("p.formula", { id }, box.flatMap((value, k) => [together(`${["x₁", "y₁", "x₂", "y₂"][k]} = `, num(value), k < 3 ? "," : ""), " "]));
}
