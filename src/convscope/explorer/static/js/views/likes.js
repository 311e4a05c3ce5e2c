// What a map or a unit likes: the pictures of the data set that excite it most, and the picture that it would like best.

import { h, num, replace, say } from "../core/dom.js";
import { bytes } from "../core/connection.js";
import { short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { isVector } from "../draw/columns.js";
import { pictureCanvas } from "../draw/atlas.js";
import { palette } from "../draw/palette.js";
import { Running } from "./running.js";

const state = { key: null, found: null, grown: null, running: null, draw: null };

export async function showLikes(app, body) {
  const { layer, map, unit } = app.store.state;
  if (!layer || map === null) {
    replace(body, h("p.note", {}, t("likes_choose")));
    return;
  }
  const index = unit && !isVector(app.model.byName.get(layer).shape) ? unit : [map];
  const key = JSON.stringify([layer, index]);
  if (state.key !== key) {
    state.running?.cancel();
    Object.assign(state, { key, found: null, grown: null, running: new Running(app) });
  }
  const { running } = state;
  const patches = h("div.patches", { id: "patches" });
  const grown = h("div", { id: "grown" });
  // The panel may be drawn anew while a job runs: what the job brings goes into the one that is there then.
  const draw = () => state.draw();
  state.draw = () => {
    replace(patches, state.found ? state.found.examples.map((each) => patch(app, state.found, each)) : null);
    replace(grown, state.grown?.history.length ? climb(state.grown) : null);
  };
  async function search() {
    const done = await running.run(async () => {
      const found = await running.ask("likes", { layer, map, count: 9 });
      if (state.key === key) state.found = found;
    });
    if (done && state.key === key && state.found.examples.length) say(t("likes_best", { value: short(state.found.examples[0].value) }));
    draw();
  }
  async function grow() {
    let over = false;
    const watch = async () => {
      while (!over) {
        const answer = await app.connection.ask("growing").catch(() => null);
        const mine = answer?.history.length && answer.layer === layer && answer.index.join() === index.join();
        if (!over && state.key === key && mine) {
          state.grown = answer;
          draw();
        }
        await new Promise((next) => setTimeout(next, 60));
      }
    };
    await running.run(async () => {
      const watching = watch();
      try {
        const grown = await app.connection.ask("maximise", { layer, index, steps: 128 });
        if (state.key === key) state.grown = grown;
      } finally {
        over = true;
        await watching;
      }
    });
    draw();
  }
  replace(body,
    h("p", {}, t(index.length > 1 ? "likes_unit" : "likes_map", { layer, map, unit: index.join(", ") })),
    running.box,
    h("div.row", {},
      h("button.button", { type: "button", id: "find-patches", disabled: !app.model.data, onclick: search }, t("likes_search")),
      h("button.button", { type: "button", id: "grow", onclick: grow }, t("likes_grow"))),
    app.model.data ? null : h("p.note", {}, t("likes_no_data")),
    patches, grown,
    h("p.note", {}, t("likes_text")));
  draw();
}

function patch(app, found, each) {
  const canvas = pictureCanvas(bytes(found, each.offset, each.shape.reduce((a, b) => a * b, 1)), each.shape);
  canvas.setAttribute("aria-hidden", "true");
  const [rows, columns] = each.box;
  return h("button.patch", {
    type: "button", "data-index": String(each.index), "data-box": JSON.stringify(each.box),
    title: `${each.class} · ${t(`split_${found.split}`)} ${each.index}${columns ? ` · ${rows[0]}…${rows[1] - 1}, ${columns[0]}…${columns[1] - 1}` : ""}`,
    onclick: () => app.frames.change("show_data", { split: found.split, index: each.index }),
  }, canvas, h("span.small", {}, `${each.class} · `, num(each.value, { text: short(each.value, 3) })));
}

function climb(grown) {
  const { history, shape } = grown;
  const canvas = pictureCanvas(bytes(grown, 0, shape.reduce((a, b) => a * b, 1)), shape);
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", t("likes_grow"));
  const plot = h("canvas", { width: 320, height: 130, role: "img", "aria-label": t("likes_history") });
  const context = plot.getContext("2d");
  const [low, high] = [Math.min(...history), Math.max(...history)];
  context.strokeStyle = palette.accent;
  context.lineWidth = 3;
  context.beginPath();
  history.forEach((value, step) => context.lineTo(6 + (step / Math.max(1, history.length - 1)) * 308, 124 - ((value - low) / (high - low || 1)) * 118));
  context.stroke();
  const last = history.at(-1);
  return [h("figure.grown", {}, canvas), plot, h("dl.pairs", {}, h("dt", {}, t("likes_from")), h("dd", {}, num(history[0])), h("dt", {}, t("likes_to")), h("dd", { id: "grown-to" }, num(last)), h("dt", {}, t("likes_steps")), h("dd", {}, String(history.length - 1)))];
}
