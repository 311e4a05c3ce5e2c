// The attribution bench: every method's map of the picture beside the checks that tell how far to believe it.

import { h, num, replace, say } from "../core/dom.js";
import { floats } from "../core/connection.js";
import { short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { floatsAtlas } from "../draw/atlas.js";
import { palette } from "../draw/palette.js";
import { Running } from "./running.js";

const state = { key: null, maps: new Map(), checks: new Map(), failed: new Map(), chosen: null, running: null, draw: null, work: null, single: false };

export async function showBench(app, body) {
  const { frame, layer, map, unit } = app.store.state;
  if (!frame.probabilities && !(layer && map !== null)) {
    replace(body, h("p.note", {}, t("bench_choose")));
    return;
  }
  const said = app.model.detector ? frame.target : frame.predicted; // of a detector the class of the box that is chosen
  const target = unit ? { layer, index: unit } : layer && map !== null ? { layer, index: [map] } : { class: said };
  const key = JSON.stringify([frame.version, target]);
  if (state.key !== key) {
    state.running?.cancel();
    Object.assign(state, { key, maps: new Map(), checks: new Map(), failed: new Map(), chosen: null, running: new Running(app) });
  }
  const { running, maps, checks, failed } = state; // of this question; an answer that comes late goes into no other's
  const rows = h("tbody");
  const detail = h("div", { id: "bench-detail" });
  const about = unit ? t("bench_unit", { layer, unit: unit.join(", ") }) : target.layer ? t("bench_map", { layer, map }) : t("bench_class", { name: app.model.className(said) });
  // The panel may be drawn anew while a job runs: what the job brings goes into the one that is there then.
  const draw = () => state.draw();
  state.draw = () => {
    replace(rows, app.model.attributions.map((method) => row(app, method, choose)));
    replace(detail, state.chosen ? one(app, state.chosen) : null);
  };
  async function fetchMap(method) {
    if (maps.has(method) || failed.has(method)) return;
    try {
      const answer = await running.ask("evidence", { method, ...target });
      maps.set(method, { values: floats(answer), shape: answer.shape, limit: answer.limit });
    } catch (error) {
      if (error.kind === "cancelled" || error.kind === "lost") throw error;
      failed.set(method, error);
    }
    draw();
    if (state.key === key && state.chosen === method) overlay();
  }
  async function fetchChecks(method) {
    if (checks.has(method) || failed.has(method)) return;
    checks.set(method, await running.ask("checks", { method, ...target }));
    draw();
  }
  // Another choice ends what the one before still asks for, and waits for its turn behind "all".
  async function choose(method) {
    state.chosen = method;
    draw();
    overlay();
    if (state.single) running.cancel();
    await state.work?.catch(() => {});
    if (state.key !== key || state.chosen !== method) return;
    await work(true, async () => {
      await fetchMap(method);
      await fetchChecks(method);
    });
    draw();
  }
  function work(single, job) {
    if (running.active) return null;
    state.single = single;
    return (state.work = running.run(job));
  }
  function overlay() {
    const found = state.maps.get(state.chosen);
    if (found) app.store.set({ evidence: { method: state.chosen, ...found, kind: "activation" } });
  }
  const all = (withChecks) => work(false, async () => {
    for (const method of app.model.attributions) {
      await fetchMap(method);
      if (withChecks) await fetchChecks(method);
    }
    say(t("bench_done"));
  });
  replace(body,
    h("p", { id: "bench-about" }, about),
    h("div.row", {},
      h("button.button", { type: "button", id: "bench-maps", onclick: () => all(false) }, t("bench_maps")),
      h("button.button.primary", { type: "button", id: "bench-all", onclick: () => all(true) }, t("bench_all"))),
    running.box,
    h("table.sum.bench", { id: "bench-table" }, h("thead", {}, h("tr", {}, h("th", {}, t("method")), h("th", { title: t("bench_deletion_text") }, t("bench_deletion")), h("th", { title: t("bench_insertion_text") }, t("bench_insertion")), h("th", { title: t("bench_random_text") }, t("bench_random")))), rows),
    detail,
    h("p.note", {}, t("bench_text")));
  draw();
}

function row(app, method, choose) {
  const found = state.maps.get(method);
  const checks = state.checks.get(method);
  const failed = state.failed.get(method);
  const picture = h("span.thumb", {});
  if (found) picture.append(thumbnail(app, found));
  const area = (name, chance) => (checks ? h("td", {}, num(checks[name].area, { text: short(checks[name].area, 3) }), h("br"), h("span.soft.num", { "data-exact": String(chance) }, short(chance, 3))) : h("td", {}, "–"));
  const last = checks?.randomised.at(-1)?.agreement ?? null;
  return h("tr.term", { "data-method": method },
    h("td", {}, h("button.method", { type: "button", "aria-pressed": String(state.chosen === method), onclick: () => choose(method) }, picture,
      h("span", {}, t(`attribution_${method}`), failed ? h("span.small.soft", {}, h("br"), t("bench_not_here")) : checks && !checks.honest ? h("span.small.warned", {}, h("br"), t("bench_not_honest")) : null))),
    area("deletion", checks?.by_chance[0]), area("insertion", checks?.by_chance[1]),
    last === null ? h("td", {}, "–") : h("td", {}, num(last, { text: short(last, 2) })));
}

function thumbnail(app, { values, shape, limit }) {
  const canvas = h("canvas", { width: shape[1], height: shape[0], "aria-hidden": "true" });
  canvas.getContext("2d").drawImage(floatsAtlas(values, shape[0], shape[1], "activation", limit).canvas, 0, 0);
  return canvas;
}

// One method: what it shows, its curves, how alike it is with random weights from each layer on.
function one(app, method) {
  const checks = state.checks.get(method);
  const failed = state.failed.get(method);
  if (failed) return h("p.note.warn", { id: "bench-failed" }, failed.message);
  if (!checks) return null;
  const bars = checks.randomised.flatMap(({ layer, agreement }) => {
    const fill = h("span.fill");
    fill.style.width = `${Math.max(0, agreement) * 100}%`;
    return [h("span.name", { title: layer }, layer), h("span.track", {}, fill), num(agreement, { text: short(agreement, 2) })];
  });
  return h("div", {},
    h("h2", {}, t(`attribution_${method}`)),
    h("p", {}, t(`about_${method}`)),
    checks.honest ? null : h("p.note.warn", {}, t("bench_not_honest_text")),
    h("div.grid2", {}, curve(checks.deletion, t("bench_deletion_text")), curve(checks.insertion, t("bench_insertion_text"))),
    checks.gap === null ? null : h("p", { id: "bench-gap" }, `${t("bench_gap")} `, num(checks.gap, { text: `${short(checks.gap * 100, 3)} %` })),
    h("p.small.soft", {}, t("bench_random_text")),
    h("div.bars", { id: "bench-random" }, bars));
}

function curve({ shares, scores, area }, text) {
  const canvas = h("canvas", { width: 320, height: 150, role: "img", "aria-label": `${text} ${short(area, 3)}` });
  const context = canvas.getContext("2d");
  const [low, high] = [Math.min(0, ...scores), Math.max(1e-9, ...scores)];
  const at = (share, score) => [8 + share * 304, 142 - ((score - low) / (high - low)) * 132];
  context.strokeStyle = palette.line;
  context.strokeRect(8, 10, 304, 132);
  context.beginPath();
  shares.forEach((share, index) => context.lineTo(...at(share, scores[index])));
  context.strokeStyle = palette.accent;
  context.lineWidth = 3;
  context.stroke();
  context.lineTo(...at(1, Math.max(0, low)));
  context.lineTo(...at(0, Math.max(0, low)));
  context.globalAlpha = 0.15;
  context.fillStyle = palette.accent;
  context.fill();
  return h("figure", {}, canvas, h("figcaption.small.soft", {}, text));
}
