// A whole layer: all its maps in a grid that draws only what is seen, in the order asked for.

import { h, num, replace, say } from "../core/dom.js";
import { bytes } from "../core/connection.js";
import { count, short } from "../core/format.js";
import { t } from "../core/i18n.js";
import { Atlas } from "../draw/atlas.js";
import { palette } from "../draw/palette.js";

const state = { order: "index" };

export async function showLayer(app, body) {
  const { layer, show, rule } = app.store.state;
  const node = app.model.byName.get(layer);
  const hasKind = show === "activation" || show === "delta" || node.parameters.weight;
  const quantity = hasKind && !(show === "delta" && app.store.get("frame").loss === null) ? show : "activation";
  const answer = await app.connection.ask("grid", { layer, quantity, rule, order: state.order, start: 0, stop: 4096, side: 28 });
  const atlas = new Atlas(bytes(answer, 0, answer.count * answer.height * answer.width), answer.count, answer.height, answer.width, quantity);
  const canvas = h("canvas", { role: "img", "aria-label": t("grid_label", { count: answer.total, layer }) });
  const tall = h("div.tall");
  const box = h("div.maps", { id: "layer-grid", tabIndex: 0, "aria-label": t("grid_label", { count: answer.total, layer }), role: "group" }, tall, canvas);
  const ratio = Math.min(3, devicePixelRatio || 1);
  const cell = answer.height * answer.width === 1 ? 15 : 44;
  let columns = 1;
  let cursor = -1;

  function draw() {
    const width = box.clientWidth || 340;
    columns = Math.max(1, Math.floor(width / cell));
    const rows = Math.ceil(answer.count / columns);
    tall.style.height = `${rows * cell + 4}px`;
    const below = box.getBoundingClientRect().top + (body.scrollTop ?? 0);
    const room = innerWidth > 760 ? innerHeight - below - 190 : 0; // what stands below it stays in sight
    box.style.height = `${Math.min(Math.max(320, room), rows * cell + 8)}px`;
    const height = box.clientHeight || 260; // of the box as it has just become
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const context = canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.imageSmoothingEnabled = false;
    const first = Math.floor(box.scrollTop / cell);
    for (let row = first; row <= first + Math.ceil(height / cell) && row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const tile = row * columns + column;
        if (tile >= answer.count) break;
        const place = atlas.place(tile);
        const side = cell - (cell > 20 ? 5 : 2);
        context.drawImage(place.canvas, place.x, place.y, place.w, place.h, column * cell + 2, row * cell - box.scrollTop + 2, side, side);
        context.strokeStyle = tile === cursor ? palette.accent : palette.line;
        context.lineWidth = tile === cursor ? 3 : 1;
        context.strokeRect(column * cell + 2, row * cell - box.scrollTop + 2, side, side);
      }
    }
  }
  // A cursor moves by the arrows; Enter opens the map under it.
  function step(event) {
    const wide = columns;
    const page = wide * Math.max(1, Math.floor(box.clientHeight / cell));
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide, PageUp: -page, PageDown: page, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter" && cursor >= 0) app.selection.select(layer, answer.ranked[cursor]);
    else if (by === undefined) return;
    else cursor = cursor < 0 && by > 0 && by < Infinity ? 0 : Math.min(answer.count - 1, Math.max(0, cursor + by));
    event.preventDefault();
    const top = Math.floor(cursor / columns) * cell;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + cell > box.scrollTop + box.clientHeight) box.scrollTop = top + cell - box.clientHeight;
    if (event.key !== "Enter") say(app.model.mapName(layer, answer.ranked[cursor]));
    draw();
  }
  box.addEventListener("keydown", step);
  box.addEventListener("scroll", draw);
  box.addEventListener("click", (event) => {
    const rect = box.getBoundingClientRect();
    const tile = Math.floor((event.clientY - rect.top + box.scrollTop) / cell) * columns + Math.floor((event.clientX - rect.left) / cell);
    if (answer.ranked[tile] !== undefined) app.selection.select(layer, answer.ranked[tile]);
  });
  const number = h("input", { type: "number", id: "go-map", min: "0", max: String(answer.total - 1), value: "0" });
  const row = (name, value) => [h("dt", {}, name), h("dd", {}, num(value, { text: short(value) }))];
  replace(body,
    h("div.row", {},
      h("label.field", {}, t("order"), h("select", { id: "order", onchange: (event) => {
        state.order = event.target.value;
        showLayer(app, body);
      } }, ["index", "largest", "mean"].map((each) => h("option", { value: each, selected: each === state.order }, t(`order_${each}`))))),
      h("label.field", {}, t("map_number"), number),
      h("button.button", { type: "button", id: "open-map", onclick: () => app.selection.select(layer, Math.min(answer.total - 1, Math.max(0, Number(number.value) || 0))) }, t("open"))),
    box,
    h("dl.pairs", {}, [h("dt", {}, t("maps")), h("dd", {}, count(answer.total))], row(t("smallest"), answer.low), row(t("largest"), answer.high), row(t("colour_limit"), answer.limit), [h("dt", {}, t("all_zero")), h("dd", {}, String(answer.dead))]),
    h("p.note", {}, t("choose_in_grid")));
  requestAnimationFrame(draw);
}
