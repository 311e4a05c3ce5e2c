// Side by side: another checkpoint, or a pinned picture, and how far every layer is from what is shown; and a film.

import { h, num, replace, say } from "../core/dom.js";
import { bytes } from "../core/connection.js";
import { count, percent, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { Atlas } from "../draw/atlas.js";

const state = { film: null, at: 0 };

export async function showBeside(app, body) {
  const { layer, frame } = app.store.state;
  const known = await app.connection.ask("besides");
  const choices = [...(known.pinned ? ["pinned"] : []), ...known.checkpoints];
  const which = choices.includes(app.store.get("beside")) ? app.store.get("beside") : (choices[0] ?? null);
  const pin = async () => {
    await app.connection.ask("pin");
    app.store.set({ beside: "pinned" });
    await showBeside(app, body);
    say(t("beside_pinned_now"));
  };
  const select = choices.length ? h("label.field", {}, t("beside_with"), h("select", { id: "beside-with", onchange: (event) => {
    app.store.set({ beside: event.target.value });
    showBeside(app, body);
  } }, choices.map((each) => h("option", { value: each, selected: each === which }, each === "pinned" ? t("beside_pinned") : each)))) : null;
  const parts = [h("p", {}, t("beside_text")), h("div.row", {}, select, h("button.button", { type: "button", id: "pin", onclick: pin }, t("beside_pin")))];
  if (which) {
    const found = await app.connection.ask("beside", layer ? { which, layer } : { which });
    parts.push(...comparison(app, found));
    if (known.checkpoints.length > 1 && layer) parts.push(...film(app, layer, frame.version));
  } else parts.push(h("p.note", {}, t("beside_none")));
  replace(body, ...parts);
}

function comparison(app, found) {
  const most = Math.max(1e-12, ...found.layers.map((each) => each.relative ?? 0));
  const rows = found.layers.map((each) => {
    const fill = h("span.fill");
    fill.style.width = `${((each.relative ?? most) / most) * 100}%`;
    return h("tr.term", { "data-layer": each.name }, h("td", {}, h("button.method", { type: "button", onclick: () => app.selection.select(each.name) }, each.name)),
      h("td.spark", {}, h("span.track", {}, fill)), h("td", {}, each.relative === null ? "∞" : num(each.relative, { text: short(each.relative, 3) })), h("td", {}, num(each.largest, { text: short(each.largest, 3) })));
  });
  return [
    found.probabilities && found.probabilities_other ? answers(app, found) : null,
    found.maps ? grids(app, found) : null,
    ...(found.apart ?? []).map((each) => differing(app, found.layer, each)),
    h("table.sum.beside", { id: "beside-layers" }, h("thead", {}, h("tr", {}, h("th", {}, t("layer")), h("th", {}), h("th", {}, "‖Δ‖/‖y‖"), h("th", {}, "max |Δ|"))), h("tbody", {}, rows)),
    found.parameters.length ? h("details", {}, h("summary", {}, t("beside_parameters")), h("table.sum", { id: "beside-parameters" }, h("tbody", {}, found.parameters.map((each) => h("tr.term", { "data-parameter": each.name }, h("td.where", { title: each.name }, each.name), h("td", {}, each.relative === null ? "∞" : num(each.relative, { text: short(each.relative, 3) }))))))) : null,
  ].filter(Boolean);
}

// Which maps of the layer, or which kernels, are others; a click goes there.
function differing(app, layer, { what, all, count: many, parts }) {
  const go = ({ index }) => {
    const shape = app.model.byName.get(layer).parameters[what];
    if (what) app.store.set({ weight: { parameter: what, index: shape.map((_, d) => index[d] ?? 0) } });
    app.selection.select(layer, index[0]);
  };
  return h("p.small", { "data-apart": what, "data-exact": String(many) }, `${t("beside_differ", { what: what || t("beside_maps"), count: count(many), all: count(all) })} `,
    h("span.more", {}, parts.map((each) => h("button.button.small", { type: "button", "data-part": each.index.join(","), title: short(each.largest, 3), onclick: () => go(each) }, each.index.join(", "))),
      many > parts.length ? t("more_maps", { count: many - parts.length }) : null));
}

function answers(app, found) {
  const both = found.probabilities.map((now, index) => [index, now, found.probabilities_other[index]]);
  both.sort((a, b) => Math.max(b[1], b[2]) - Math.max(a[1], a[2]));
  return h("div.compare", { id: "beside-answers" }, both.slice(0, 4).flatMap(([index, now, other]) => {
    const a = h("span.was");
    const b = h("span.will");
    a.style.width = `${now * 100}%`;
    b.style.width = `${other * 100}%`;
    return [h("span", {}, app.model.className(index)), h("span.track", {}, a, b), num(now, { text: percent(now) }), num(other, { text: `| ${percent(other)}`, kind: "delta" })];
  }));
}

// The maps of the chosen layer: shown, other, difference.
function grids(app, found) {
  const { both, difference, maps } = found;
  const size = both.height * both.width * maps;
  const one = (data, info, text) => h("figure", {}, picture(data, maps, info, "activation"), h("figcaption.small.soft", {}, `${text} ± `, num(info.limit, { text: short(info.limit, 3) })));
  return h("div.grid3", { id: "beside-maps" }, one(bytes(found, 0, size), both, t("beside_shown")), one(bytes(found, size, size), both, t("beside_other")),
    one(bytes(found, found.difference_offset, size), difference, t("beside_difference")));
}

function picture(data, count, { height, width }, kind) {
  const atlas = new Atlas(data, count, height, width, kind);
  const canvas = h("canvas.atlas", { width: atlas.columns * width, height: atlas.rows * height, role: "img", "aria-label": t("maps") });
  canvas.getContext("2d").drawImage(atlas.canvas, 0, 0);
  return canvas;
}

// Every checkpoint's maps are fetched once; the slider then draws from memory.
function film(app, layer, version) {
  const box = h("div", { id: "film" });
  const play = async (quantity) => {
    state.film = await app.connection.ask("film", { layer, quantity });
    state.at = 0;
    draw();
  };
  const draw = () => {
    const now = state.film;
    if (!now || now.layer !== layer || now.version !== version) return;
    const slider = h("input", { type: "range", id: "film-at", min: "0", max: String(now.frames.length - 1), value: String(state.at), "aria-label": t("beside_film"), oninput: (event) => show(Number(event.target.value)) });
    const canvas = h("canvas.atlas", { role: "img" });
    const text = h("p.small", { id: "film-text" });
    const show = (at) => {
      state.at = at;
      const size = now.maps * now.height * now.width;
      const atlas = new Atlas(bytes(now, at * size, size), now.maps, now.height, now.width, now.quantity);
      canvas.width = atlas.columns * now.width;
      canvas.height = atlas.rows * now.height;
      canvas.getContext("2d").drawImage(atlas.canvas, 0, 0);
      const { name, probabilities } = now.frames[at];
      const best = probabilities ? probabilities.indexOf(Math.max(...probabilities)) : null;
      text.textContent = `${name}${best === null ? "" : ` · ${app.model.className(best)} ${percent(probabilities[best])}`}`;
      canvas.setAttribute("aria-label", text.textContent);
    };
    replace(box, slider, canvas, text);
    show(Math.min(state.at, now.frames.length - 1));
  };
  draw();
  const node = app.model.byName.get(layer);
  return [h("h2", {}, t("beside_film")), h("div.row", {}, h("button.button", { type: "button", id: "film-maps", onclick: () => play("activation") }, t("beside_film_maps")),
    node.parameters.weight ? h("button.button", { type: "button", id: "film-kernels", onclick: () => play("weight") }, t("beside_film_kernels")) : null), box];
}
