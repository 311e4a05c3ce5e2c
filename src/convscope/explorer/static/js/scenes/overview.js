// The whole network: every layer a column of maps, branches as lanes, connections between them.

import { isVector, OUTPUT_ROWS, tilePlace } from "../draw/columns.js";
import { ends } from "../draw/colour.js";
import { palette } from "../draw/palette.js";
import { percent, short } from "../core/format.js";

// → pictures by id, and functions that draw the rest, `live` what the pointer moves; `dim` fades everything, for a scene
// laid over it
export function overview(app, { dim = 1 } = {}) {
  const { model, stage, store } = app;
  const { atlases } = app.frames;
  const { layout: arranged } = app.camera;
  const pictures = new Map();
  const { frame } = store.state;
  const cx = app.camera.x;
  app.outputOrder = outputOrder(model, frame);
  for (const [name, box] of arranged.boxes) {
    const at = { ...box, x: box.x - cx };
    const shows = box.item.shows;
    if (box.kind === "input") {
      const moves = atlases.get("input"); // ∂J/∂x, among the sensitivities
      if (moves) pictures.set("input", { place: moves.whole(), x: at.x, y: at.y, w: at.width, h: at.height, alpha: dim });
      else if (app.frames.picture) pictures.set("input", { place: whole(app.frames.picture), x: at.x, y: at.y, w: at.width, h: at.height, alpha: dim });
      continue;
    }
    const atlas = atlases.get(shows);
    const alpha = atlas || !atlases.size ? dim : 0.3 * dim; // a layer without weights has none to show
    if (box.kind === "output") {
      box.order = app.outputOrder;
      continue;
    }
    if (box.kind === "strip") {
      const place = atlas ? app.frames.strip(shows, box.columns) : null;
      pictures.set(shows, { place, x: at.x, y: at.y, w: at.width, h: at.height, alpha });
      continue;
    }
    const shown = atlas ? Math.min(box.shown, atlas.count) : box.shown;
    for (let map = 0; map < box.shown; map++) {
      const place = tilePlace(at, map);
      pictures.set(`${shows}/${map}`, { place: atlas && map < shown ? atlas.place(map) : null, ...place, alpha });
    }
  }
  return {
    pictures,
    background: palette.paper,
    line: palette.lineStrong,
    under: (painter) => drawEdges(app, painter, dim),
    over: (painter) => {
      drawOutput(app, painter, dim);
      if (dim === 1) {
        drawOpened(app, painter);
        drawMore(app, painter);
      }
    },
    live: (painter) => {
      drawHover(app, painter);
      drawField(app, painter);
      if (app.camera.y > 0) painter.rect(0, 0, stage.width, app.camera.base.top - 8, { fill: palette.paper, alpha: 1 }); // behind the names
    },
  };
}

function whole(canvas) {
  return { canvas, x: 0, y: 0, w: canvas.width, h: canvas.height };
}

function outputOrder(model, frame) {
  const count = model.classes.length;
  if (!frame?.probabilities || count <= OUTPUT_ROWS) return null;
  const order = frame.probabilities.map((value, index) => [value, index]).sort((a, b) => b[0] - a[0]).map((pair) => pair[1]);
  return order.slice(0, OUTPUT_ROWS);
}

function drawEdges(app, painter, dim) {
  const { graph } = app;
  const { layout: arranged } = app.camera;
  let lane = 0;
  for (const [from, to] of graph.edges) {
    const a = arranged.boxes.get(from);
    const b = arranged.boxes.get(to);
    if (!a || !b) continue;
    const x1 = a.x + a.width - app.camera.x + 3;
    const x2 = b.x - app.camera.x - 3;
    if (Math.min(x1, x2) > app.stage.width || Math.max(x1, x2) < 0) {
      if (b.item.rank - a.item.rank > 1) lane += 1;
      continue;
    }
    const y1 = a.y + a.height / 2;
    const y2 = b.y + b.height / 2;
    if (b.item.rank - a.item.rank > 1) {
      // a connection that skips layers goes over them
      const up = arranged.top - 12 - (lane++ % 3) * 7;
      const r = 10;
      const xa = a.x + a.width / 2 - app.camera.x;
      const xb = b.x + b.width / 2 - app.camera.x;
      painter.path([[xa, a.y - 4], [xa, up + r], [xa, up, xa, up, xa + r, up], [xb - r, up], [xb, up, xb, up, xb, up + r], [xb, b.y - 7]], { stroke: palette.accent, width: 1.4, alpha: 0.65 * dim });
      painter.path([[xb - 3.5, b.y - 8], [xb + 3.5, b.y - 8], [xb, b.y - 2]], { fill: palette.accent, alpha: 0.75 * dim });
      continue;
    }
    const h1 = a.height / 2;
    const h2 = b.height / 2;
    const xm = (x1 + x2) / 2;
    painter.path([[x1, y1 - h1], [xm, y1 - h1, xm, y2 - h2, x2, y2 - h2], [x2, y2 + h2], [xm, y2 + h2, xm, y1 + h1, x1, y1 + h1]], { fill: palette.line, alpha: 0.5 * dim });
  }
}

// The layer whose maps are listed beside the board.
function drawOpened(app, painter) {
  const box = app.camera.boxOf(app.store.get("layer"));
  if (box) painter.rect(box.x - app.camera.x - 6, box.y - 6, box.width + 12, box.height + (app.camera.zoom < 0.7 ? 12 : 24), { stroke: palette.accent, width: 1.6, radius: 7 });
}

// Below every column: the limit of its own colour scale, and how many of its maps stand here.
function drawMore(app, painter) {
  if (app.camera.zoom < 0.7) return; // no room for words
  for (const box of app.camera.layout.boxes.values()) {
    const atlas = box.kind === "output" ? null : app.frames.atlases.get(box.item.shows);
    const middle = box.x - app.camera.x + box.width / 2;
    const style = { size: app.camera.layout.gap < 12 ? 9 : 10, colour: palette.soft, align: "center" };
    if (atlas) painter.text(atlas.low || atlas.high ? `±${short(atlas.limit, 2)}` : "0", middle, box.y + box.height + 9, { ...style, mono: true });
    if (box.kind === "tiles" && box.count > box.shown) painter.text(`${box.shown} / ${box.count}`, middle, box.y + box.height + (atlas ? 20 : 9), style);
  }
}

function drawOutput(app, painter, dim) {
  const box = [...app.camera.layout.boxes.values()].find((each) => each.kind === "output");
  const { frame } = app.store.state;
  if (!box || !frame?.probabilities) return;
  const x = box.x - app.camera.x;
  const rows = box.order ?? frame.probabilities.map((_, index) => index).slice(0, box.shown);
  const label = Math.min(70, box.width * 0.5);
  const deltas = app.store.get("show") === "delta" ? frame.output_delta : null;
  const most = deltas ? Math.max(1e-30, ...deltas.map(Math.abs)) : 1;
  rows.forEach((cls, row) => {
    const y = box.y + row * box.cell;
    const middle = y + box.cell / 2;
    const chosen = cls === frame.predicted;
    const p = frame.probabilities[cls];
    const track = box.width - label - 4;
    const name = clip(app.model.className(cls), Math.floor(label / 7.5));
    if (box.cell >= 7) painter.text(name, x + label - 6, middle, { size: Math.min(12.5, box.cell * 0.9), weight: chosen ? 700 : 400, colour: chosen ? palette.ink : palette.soft, align: "right", alpha: dim });
    const half = Math.min(5, box.cell * 0.4);
    painter.rect(x + label, middle - half, track, 2 * half, { fill: palette.line, radius: 3, alpha: dim });
    if (deltas) drawDelta(painter, { x: x + label, middle, track, alpha: dim }, deltas[cls], most, box.cell >= 22 && dim === 1);
    else if (p > 0.002) painter.rect(x + label, middle - half, Math.max(2, track * p), 2 * half, { fill: palette.activation, radius: 3, alpha: dim });
    if (cls === frame.target) painter.path([[x + label - 2, middle - 8], [x + label - 2, middle + 8]], { stroke: palette.delta, width: 2.5, alpha: dim });
    if (chosen && !deltas && box.cell >= 24 && dim === 1) {
      painter.text(percent(p), x + label + track, middle - 11, { size: 11, colour: palette.ink, align: "right", alpha: dim });
    }
  });
}

// δ of an output unit, p − t under cross-entropy: a bar to the left or right of zero.
function drawDelta(painter, { x, middle, track, alpha }, delta, most, written) {
  const zero = x + track / 2;
  const length = Math.max(delta ? 1.5 : 0, (Math.abs(delta) / most) * (track / 2));
  painter.rect(delta < 0 ? zero - length : zero, middle - 5, length, 10, { fill: ends("delta")[delta < 0 ? "minus" : "plus"], radius: 2, alpha });
  painter.path([[zero, middle - 7], [zero, middle + 7]], { stroke: palette.soft, width: 1, alpha });
  if (written) painter.text(short(delta, 3), x + track, middle - 11, { size: 10, mono: true, colour: palette.ink, align: "right", alpha });
}

function clip(text, length) {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

// In-edges of the map under the pointer or the keyboard's cursor; the map itself outlined.
function drawHover(app, painter) {
  const { hover } = app.store.state;
  if (!hover || !hover.layer) return;
  const box = app.camera.boxOf(hover.layer);
  if (!box) return;
  const at = shift(tilePlace(box, hover.map ?? 0), app.camera.x);
  const strength = app.hoverStrength();
  if (hover.layer !== "input") {
    const node = app.model.byName.get(hover.layer);
    for (const source of node.sources) {
      const from = app.camera.boxOf(source);
      if (!from) continue;
      const maps = feeding(app, node, source, hover.map);
      const shown = from.kind === "strip" && from.count > 400 ? null : maps;
      const list = shown ?? [...Array(Math.min(from.shown, 200)).keys()];
      for (const map of list.slice(0, 400)) {
        if (map >= from.shown && from.kind !== "strip") continue;
        const start = shift(tilePlace(from, map), app.camera.x);
        const x1 = from.kind === "output" ? start.x : start.x + start.w;
        const xm = (x1 + at.x) / 2;
        painter.path([[x1, start.y + start.h / 2], [xm, start.y + start.h / 2, xm, at.y + at.h / 2, at.x, at.y + at.h / 2]], { stroke: palette.soft, width: list.length > 100 ? 0.5 : 0.9, alpha: (list.length > 60 ? 0.35 : 0.75) * strength });
        if (from.kind !== "strip") painter.rect(start.x - 1, start.y - 1, start.w + 2, start.h + 2, { stroke: palette.soft, width: 1.2, alpha: strength });
      }
    }
  }
  painter.rect(at.x - 2, at.y - 2, at.w + 4, at.h + 4, { stroke: palette.accent, width: 2.2, radius: 2 });
  if (hover.cell && box.kind !== "strip" && box.kind !== "output") drawCell(painter, app, hover, at);
}

function drawCell(painter, app, hover, at) {
  const [rows, columns] = app.model.sizeOf(hover.layer);
  const w = at.w / columns;
  const h = at.h / rows;
  painter.rect(at.x + hover.cell[1] * w - 0.5, at.y + hover.cell[0] * h - 0.5, Math.max(3, w + 1), Math.max(3, h + 1), { stroke: palette.ink, width: 1.4 });
}

// Which maps of `source` feed map number `map` of a node.
export function feeding(app, node, source, map) {
  const from = app.model.byName.get(source);
  const count = from ? (from.shape[0] ?? 1) : 1;
  const all = [...Array(count).keys()];
  switch (node.connections.kind) {
    case "table":
      return node.connections.maps[map] ?? [];
    case "groups": {
      const into = count / node.connections.groups;
      const group = Math.floor(map / (node.shape[0] / node.connections.groups));
      return all.slice(group * into, (group + 1) * into);
    }
    case "same":
      return [Math.min(map, count - 1)];
    case "concat": {
      let before = 0;
      for (const name of node.sources) {
        const size = app.model.byName.get(name)?.shape[0] ?? 1;
        if (name === source) return map >= before && map < before + size ? [map - before] : [];
        before += size;
      }
      return [];
    }
    case "reshape": {
      if (!from) return [0];
      const each = from.shape.slice(1).reduce((a, b) => a * b, 1);
      return [Math.floor(map / each)];
    }
    default:
      return all;
  }
}

export function shift(place, x) {
  return { ...place, x: place.x - x };
}

// The receptive field (or what a pixel reaches), on the input and on every map between.
export function drawField(app, painter) {
  const { field } = app.store.state;
  if (!field) return;
  for (const [name, box] of app.camera.layout.boxes) {
    const shows = box.item.shows;
    const found = field.boxes[shows];
    if (!found || found.length < 1 || box.kind === "strip" || box.kind === "output") continue;
    const node = app.model.byName.get(shows);
    if (node && isVector(node.shape)) continue;
    const size = shows === "input" ? app.model.picture_shape.slice(1) : app.model.sizeOf(shows);
    const [rows, columns] = found.length === 1 ? [[0, size[0]], found[0]] : found;
    if (rows[1] <= rows[0] || columns[1] <= columns[0]) continue;
    const tiles = box.kind === "input" ? 1 : Math.min(box.shown, 64);
    for (let map = 0; map < tiles; map++) {
      const at = shift(tilePlace(box, map), app.camera.x);
      const sx = at.w / size[1];
      const sy = at.h / size[0];
      painter.rect(at.x + columns[0] * sx, at.y + rows[0] * sy, Math.max(2, (columns[1] - columns[0]) * sx), Math.max(2, (rows[1] - rows[0]) * sy), { stroke: palette.warn, width: 1.6 });
    }
    void name;
  }
}

export function hoverText(app, value) {
  const { hover } = app.store.state;
  const ofInput = hover.layer === "input";
  const parts = [ofInput ? app.frames.inputName : hover.layer];
  if (!ofInput && hover.map !== null && hover.map !== undefined) parts.push(app.model.mapName(hover.layer, hover.map));
  if (hover.cell) parts.push(`(${hover.cell.join(", ")})`);
  return `${parts.join(" · ")}${value === null ? "" : ` = ${short(value)}`}`;
}
