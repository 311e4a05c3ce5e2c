// The network's health over the data set: dead units, saturation, and how far a step moves each parameter.

import { h, num, replace, say } from "../core/dom.js";
import { count, percent, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { Running } from "./running.js";

const state = { found: null, hash: null, running: null, draw: null };
const SHOWN = 24;

export async function showHealth(app, body) {
  const { training } = await app.connection.ask("training");
  if (state.hash !== training.hash) {
    state.running?.cancel();
    Object.assign(state, { found: null, hash: training.hash, running: new Running(app) });
  }
  const table = h("div", { id: "health" });
  const pictures = h("input", { type: "number", id: "health-count", min: "1", max: "5000", value: "256" });
  const draw = () => state.draw(); // into the panel that is there when the job is done
  state.draw = () => replace(table, state.found ? result(app, state.found) : null);
  const examine = async () => {
    const { running, hash } = state;
    const done = await running.run(async () => {
      const found = await running.ask("health", { count: Math.min(5000, Math.max(1, Number(pictures.value) || 256)) });
      if (state.hash === hash) state.found = found; // else the weights have changed meanwhile
    });
    if (done && state.found) say(t("health_done", { count: state.found.layers.reduce((sum, each) => sum + (each.dead?.length ?? 0), 0) }));
    draw();
  };
  replace(body,
    h("p", {}, t("health_text")),
    h("div.row", {},
      app.model.data ? h("label.field", {}, t("health_pictures"), pictures) : null,
      h("button.button.primary", { type: "button", id: "examine", onclick: examine }, t("health_examine"))),
    state.running.box, table);
  draw();
}

function result(app, found) {
  const bending = found.layers.filter((each) => each.dead !== null || each.saturated !== null);
  const rows = bending.map((each) => h("tr.term", { "data-layer": each.layer },
    h("td.where", { title: each.layer }, each.layer),
    h("td", {}, each.dead === null ? "–" : num(each.dead.length, { text: `${each.dead.length} / ${count(each.units)}` })),
    h("td", {}, each.saturated === null ? "–" : num(each.saturated, { text: percent(each.saturated) })),
    h("td", {}, num(each.zero, { text: percent(each.zero) }))));
  const dead = bending.filter((each) => each.dead?.length);
  return [
    h("p.small.soft", {}, t("health_over", { count: count(found.pictures) })),
    bending.length ? h("table.sum", { id: "health-table" }, h("thead", {}, h("tr", {}, h("th", {}, t("layer")), h("th", {}, t("health_dead")), h("th", {}, t("health_saturated")), h("th", {}, t("health_zero")))), h("tbody", {}, rows)) : h("p.note", {}, t("health_nothing")),
    dead.map((each) => h("p.small", {}, `${t("health_dead_in", { layer: each.layer })} `,
      h("span.more", {}, each.dead.slice(0, SHOWN).map((unit) => h("button.button.small", { type: "button", "data-dead": `${each.layer}/${unit}`, onclick: () => app.selection.select(each.layer, unit) }, String(unit))),
        each.dead.length > SHOWN ? t("more_maps", { count: each.dead.length - SHOWN }) : null))),
    found.steps.length ? [h("h2", {}, "‖Δw‖ / ‖w‖"), h("table.sum", { id: "health-steps" }, h("tbody", {}, found.steps.map((each) => h("tr.term", {}, h("td.where", { title: each.parameter }, each.parameter), h("td", {}, each.ratio === null ? "–" : num(each.ratio, { text: short(each.ratio, 3) })))))), h("p.note", {}, t("health_step_text"))] : null,
  ].flat();
}
