// One map taken apart, and one unit of it: sources, kernels, partial sums, the map itself; the windows at their true
// places; for a chosen unit the numbers under the window, the kernel's, and their products.

import { palette } from "../draw/palette.js";
import { short } from "../core/format.js";
import { drawCurve } from "./curve.js";
import { drawGrids, drawTerm } from "./grids.js";
import { drawLattice, drawPlace, fourAround } from "./lattice.js";
import { overview } from "./overview.js";
import { find, readersOf, subtotal, windowBox } from "./windows.js";

export function elastic(app) {
  const { stage, store } = app;
  const { apart: data } = app;
  const still = () => app.selection.current === data; // what is written belongs to what is chosen
  const base = overview(app, { dim: 0.1 });
  const unit = store.state.unit;
  const plan = place(app, data, stage.width, stage.height, unit !== null);
  const pictures = base.pictures;
  for (const picture of pictures.values()) picture.frame = null;
  const hits = [];
  const drawn = new Set();
  for (const panel of data.panels) {
    const at = plan.places.get(panel);
    if (!at) continue;
    const own = panelId(panel);
    const id = drawn.has(own) ? `${own}/${panel.role}${panel.row}` : own; // ∂J/∂y and δ of one map, a map that is read twice
    drawn.add(id);
    const from = pictures.get(id) ?? (panel.role === "out" || panel.role === "activation" ? origin(app, panel) : null);
    pictures.delete(id);
    const late = ["kernel", "partial", "rest"].includes(panel.role);
    pictures.set(id, { place: panel.atlas.whole(), ...at, alpha: 1, front: true, late, from });
    hits.push({ panel, ...at });
  }
  app.hits = hits;
  return {
    pictures,
    late: true,
    background: palette.paper,
    line: palette.lineStrong,
    under: base.under,
    between: (painter, phases) => {
      painter.rect(0, 0, stage.width, stage.height, { fill: palette.paper, alpha: 0.55 * phases.move });
      if (still()) drawFlow(app, painter, plan, data, phases.late);
    },
    over: (painter, phases) => {
      if (!still()) return;
      drawCaptions(app, painter, plan, data, phases.late);
      drawScales(app, painter, plan, data, phases.late);
      drawValues(app, painter, plan, data, phases.move);
      drawUnit(app, painter, plan, data, phases.late);
    },
    live: (painter) => {
      if (!still()) return;
      drawTerm(app, painter);
      drawLights(app, painter);
    },
  };
}

function panelId(panel) {
  if (panel.role === "source" && !panel.unfold) return `${panel.layer}/${panel.map}`;
  if (panel.role === "out" || panel.role === "activation") return `${panel.layer}/${panel.map}`;
  return `${panel.role}${panel.row}`;
}

function origin(app, panel) {
  const box = app.camera.boxOf(panel.layer);
  return box ? { x: box.x - app.camera.x, y: box.y + box.height / 2, w: 8, h: 8 } : null;
}

function fit(panel, side, height = side) {
  const scale = Math.min(side / panel.width, height / panel.height);
  return { w: Math.max(3, panel.width * scale), h: Math.max(3, panel.height * scale) };
}

// Places of all panels, in the board's pixels.
function place(app, data, W, H, withUnit) {
  const places = new Map();
  const rows = Math.max(1, ...data.panels.filter((p) => ["source", "rest"].includes(p.role)).map((p) => p.row + 1));
  const hasAfter = data.panels.some((p) => p.role === "activation");
  const wide = data.panels.some((p) => p.unfold);
  const narrow = W < 560;
  const top = narrow ? 40 : 64;
  const room = H - top - 40;
  const middle = top + room / 2;
  const pitch = wide ? room / 3 : Math.min(104, room / rows);
  const side = wide ? Math.min(room / 3 - 26, W * 0.26) : Math.min(pitch - 12, W * 0.13, withUnit ? 62 : 92);
  const left = narrow ? 14 : 42;
  const columns = { source: left + side / 2, kernel: W * (narrow ? 0.3 : 0.28), partial: W * (narrow ? 0.45 : 0.42), sum: W * 0.575, out: W * (hasAfter ? 0.7 : 0.76), activation: W * 0.885 };
  if (wide) columns.source = columns.kernel = columns.partial = Math.max(left + side / 2, W * 0.24);
  const single = rows === 1 && !wide && !data.panels.some((p) => p.role === "kernel");
  if (single) columns.source = W * 0.2;
  const outSide = Math.min(hasAfter ? W * 0.155 : W * 0.24, 190, room * 0.6);
  for (const panel of data.panels) {
    let size;
    let x = columns[panel.role] ?? columns.partial;
    let y = top + room / 2 - (rows * pitch) / 2 + pitch * (panel.row + 0.5);
    if (panel.role === "out" || panel.role === "activation") {
      size = fit(panel, panel.width * panel.height === 1 ? Math.min(64, outSide) : outSide);
      y = middle;
    } else if (wide) {
      size = fit(panel, side);
      y = top + (room / 3) * ({ source: 0, kernel: 1, partial: 2 }[panel.role] + 0.5) + 6;
      if (data.panels.filter((p) => p.unfold).length === 1) y = middle;
    } else if (panel.role === "kernel") {
      if (withUnit) continue;
      size = fit(panel, Math.min(side * 0.8, 64));
    } else if (panel.role === "partial" || panel.role === "rest") {
      if (withUnit) continue;
      size = fit(panel, side);
      if (panel.role === "rest") x = columns.partial;
    } else {
      size = fit(panel, single ? Math.min(W * 0.24, 190, room * 0.6) : side);
    }
    places.set(panel, { x: x - size.w / 2, y: y - size.h / 2, ...size });
  }
  return { places, columns, top, room, middle, pitch, rows, side, wide, single, narrow };
}

function centre(at) {
  return [at.x + at.w / 2, at.y + at.h / 2];
}

function drawFlow(app, painter, plan, data, late) {
  const line = { stroke: palette.lineStrong, width: 1.2, alpha: late };
  const join = (x1, y1, x2, y2) => painter.path([[x1, y1], [(x1 + x2) / 2, y1, (x1 + x2) / 2, y2, x2, y2]], line);
  const out = plan.places.get(find(data, "out"));
  const ends = [];
  for (const [panel, at] of plan.places) {
    if (panel.role === "source" && !plan.wide) {
      const kernel = plan.places.get(find(data, "kernel", panel.row));
      const partial = plan.places.get(find(data, "partial", panel.row));
      if (kernel && partial) {
        join(at.x + at.w, centre(at)[1], kernel.x, centre(kernel)[1]);
        join(kernel.x + kernel.w, centre(kernel)[1], partial.x, centre(partial)[1]);
        ends.push([partial.x + partial.w, centre(partial)[1]]);
      } else if (!app.store.state.unit || !data.window || !find(data, "kernel")) ends.push([at.x + at.w, centre(at)[1]]);
    }
    if (panel.role === "rest") ends.push([at.x + at.w, centre(at)[1]]);
    if (panel.role === "partial" && plan.wide) ends.push([at.x + at.w, centre(at)[1]]);
  }
  if (plan.wide && !find(data, "partial")) {
    const source = plan.places.get(find(data, "source"));
    ends.push([source.x + source.w, centre(source)[1]]);
  }
  const summed = app.model.facts(data.family).sum;
  const sx = plan.columns.sum;
  for (const [x, y] of ends) {
    if (summed) join(x + 2, y, sx - 15, plan.middle);
    else join(x + 2, y, out.x - 4, plan.middle);
  }
  if (summed && (ends.length || app.store.state.unit)) {
    painter.path([[sx + 15, plan.middle], [out.x - 4, plan.middle]], line);
    painter.rect(sx - 15, plan.middle - 15, 30, 30, { fill: palette.raised, stroke: palette.lineStrong, radius: 15, alpha: late });
    painter.text("Σ", sx, plan.middle, { size: 16, weight: 600, colour: palette.ink, align: "center", alpha: late });
    if (data.bias !== null) {
      painter.text(`+ b`, sx, plan.middle + 29, { size: 12, colour: palette.weight, align: "center", alpha: late });
      painter.text(short(data.bias, plan.narrow ? 2 : 3), sx, plan.middle + 45, { size: plan.narrow ? 10.5 : 12, mono: true, colour: palette.weight, align: "center", alpha: late });
    }
  }
  const after = plan.places.get(find(data, "activation"));
  if (after) {
    const from = out.x + out.w + 4;
    painter.path([[from, plan.middle], [after.x - 6, plan.middle]], line);
    painter.path([[after.x - 9, plan.middle - 3.5], [after.x - 9, plan.middle + 3.5], [after.x - 3, plan.middle]], { fill: palette.lineStrong, alpha: late });
  }
}

function drawCaptions(app, painter, plan, data, late) {
  const style = { size: plan.narrow ? 11 : 12.5, weight: 600, align: "center", alpha: late };
  const t = app.t;
  const above = (role, text, colour) => {
    const panel = find(data, role);
    const at = panel && plan.places.get(panel);
    if (!at) return;
    painter.text(text, at.x + at.w / 2, at.y - 13, { ...style, colour });
  };
  const node = app.model.byName.get(data.layer);
  const back = data.direction === "backward";
  const source = (back || data.lattice ? find(data, "source")?.layer : node.sources[0]) ?? "";
  const sourceName = source === "input" ? t("input") : source;
  const letter = back ? "δ" : "x";
  const hue = back ? palette.delta : palette.activation;
  if (plan.wide) {
    above("source", `${letter} · ${sourceName}`, hue);
    above("kernel", "w", palette.weight);
    above("partial", data.family === "rbf" ? "(x − w)²" : `w · ${letter}`, palette.ink);
  } else {
    const y = Math.min(...[...plan.places].filter(([p]) => p.role === "source").map(([, at]) => at.y)) - 14;
    const heads = [["source", plan.narrow ? letter : `${letter} · ${sourceName}`, hue], ["kernel", back ? "rot180 w" : "w", palette.weight], ["partial", back ? "w ∗ δ" : "w ⋆ x", palette.ink]];
    const sources = [...plan.places].filter(([panel]) => panel.role === "source");
    const several = new Set(sources.map(([panel]) => panel.layer)).size > 1; // each is named by its own picture
    if (several) for (const [panel, at] of sources) painter.text(`${letter} · ${panel.layer === "input" ? t("input") : panel.layer}`, at.x, at.y - 9, { ...style, size: plan.narrow ? 10.5 : 11.5, colour: hue, align: "left" });
    for (const [role, text, colour] of heads) {
      if (several && role === "source") continue;
      const panel = find(data, role);
      if (panel && plan.places.has(panel)) painter.text(text, plan.columns[role], y, { ...style, colour, align: role === "source" && !plan.single && !plan.narrow ? "left" : "center" });
    }
  }
  const after = find(data, "activation");
  if (back) {
    above("out", after ? "∂J/∂y" : `δ · ${data.layer}`, palette.delta);
    above("activation", plan.narrow ? "δ" : `δ = f′(u)·∂J/∂y`, palette.delta);
  } else above("out", plan.narrow ? (after ? "z" : "y") : `${data.layer}`, palette.activation);
  if (after && !back) {
    const kind = app.model.byName.get(after.layer).kind;
    above("activation", plan.narrow ? "a" : kind, palette.activation);
  }
  const rest = find(data, "rest");
  const at = rest && plan.places.get(rest);
  if (at) {
    painter.text(t("more_maps", { count: data.more }), at.x - 10, at.y + at.h / 2, { size: 12, colour: palette.soft, align: "right", alpha: late });
  } else if (data.more) {
    const sources = [...plan.places].filter(([panel]) => panel.role === "source").map(([, place]) => place);
    const below = Math.max(...sources.map((place) => place.y + place.h));
    painter.text(t("more_maps", { count: data.more }), sources[0].x, below + 26, { size: 12, colour: palette.soft, align: "left", alpha: late });
  }
}

const SLIM = 130; // px; beside a picture that is narrower stands what else would run into its name

// Below every column the limit of its own colour scale, as in the overview.
function drawScales(app, painter, plan, data, alpha) {
  const lowest = new Map();
  for (const [panel, at] of plan.places) {
    const column = panel.role === "rest" ? "partial" : panel.role;
    const before = lowest.get(column);
    if (!before || at.y + at.h > before.at.y + before.at.h) lowest.set(column, { panel, at });
  }
  for (const { panel, at } of lowest.values()) {
    const style = { size: 10, mono: true, colour: palette.soft, alpha };
    const text = panel.largest ? `±${short(panel.largest, 2)}` : "0";
    const written = ["out", "activation"].includes(panel.role) && (app.store.state.unit || panel.width * panel.height === 1);
    if (plan.wide && panel.unfold && at.w < SLIM) painter.text(text, at.x + at.w + 4, at.y + 5, { ...style, align: "left" }); // its name fills the line above
    else if (plan.wide && panel.unfold) painter.text(text, at.x + at.w, at.y - 11, { ...style, align: "right" }); // the next stands right below
    else painter.text(text, at.x + at.w / 2, at.y + at.h + (written ? 30 : 11), { ...style, align: "center" });
  }
}

// The numbers of maps of one cell, and of the chosen unit.
function drawValues(app, painter, plan, data, alpha) {
  const { unit } = app.store.state;
  const cell = unit ? app.model.cellOf(data.layer, unit) : null;
  for (const panel of data.panels) {
    if (panel.role !== "out" && panel.role !== "activation") continue;
    const at = plan.places.get(panel);
    const one = panel.width * panel.height === 1;
    if (!one && !cell) continue;
    const value = one ? panel.values[0] : panel.full[0] === panel.height ? panel.values[cell[0] * panel.width + cell[1]] : null;
    if (value === null) continue;
    painter.text(app.lesson?.covered ? "?" : short(value, plan.narrow ? 3 : 4), at.x + at.w / 2, at.y + at.h + 15, { size: plan.narrow ? 11 : 13, mono: true, weight: 600, colour: palette.ink, align: "center", alpha });
  }
}

// The chosen unit: its window on every source, the numbers in it.
function drawUnit(app, painter, plan, data, late) {
  const { unit } = app.store.state;
  const looking = data.family === "affine_grid"; // whose maps are rows of places
  const source = data.lattice && find(data, "source");
  if (source) drawLattice(painter, plan.places.get(source), source, data.lattice, looking && data.lattice.step === 1 ? data.map : null);
  if (!unit) return;
  const cell = app.model.cellOf(data.layer, unit);
  for (const role of ["out", "activation"]) {
    const panel = find(data, role);
    const at = panel && plan.places.get(panel);
    if (at && panel.width * panel.height > 1) mark(painter, at, panel, cell, palette.ink, 2);
  }
  if (data.family === "activation") drawCurve(painter, plan, data, cell);
  const around = source && fourAround(data.lattice, looking ? [data.map, cell[0]] : cell);
  if (around) {
    const at = plan.places.get(source);
    drawWindow(painter, at, source, around, palette.ink, 2.2);
    drawPlace(painter, at, source, around);
    if (!looking) drawGrids(app, painter, plan, data, around, source.row, late);
    return;
  }
  if (!data.window || plan.wide) {
    for (const [panel, at] of plan.places) {
      if (panel.role === "source" && !panel.unfold && panel.width * panel.height > 1) {
        for (const place of placesOn(app, data, panel, cell)) mark(painter, at, panel, place, palette.ink, 2);
      }
      if (panel.role === "source" && panel.unfold && data.family === "reshape") mark(painter, at, panel, app.model.unfolded(data.layer, unit[0]), palette.ink, 2);
    }
    return;
  }
  const box = windowBox(data.window, cell);
  const chosen = chosenRow(app, data);
  for (const [panel, at] of plan.places) {
    if (panel.role !== "source") continue;
    const strong = panel.row === chosen;
    drawWindow(painter, at, panel, box, strong ? palette.warn : palette.soft, strong ? 2.2 : 1.2);
    if (data.panels.some((p) => p.role === "kernel")) {
      const sum = subtotal(data, panel, box);
      if (sum !== null && !app.lesson?.covered) {
        const x = at.x + at.w + 10;
        painter.text(`${sum < 0 ? "" : "+"}${short(sum, 3)}`, plan.narrow ? x - 5 : x, at.y + at.h / 2, { size: plan.narrow ? 10.5 : 12, mono: true, weight: strong ? 700 : 400, colour: strong ? palette.ink : palette.soft });
      }
    }
  }
  drawGrids(app, painter, plan, data, box, chosen, late);
}

// The cells of a source panel that belong to the unit: on the way back those whose windows read it, else the same place.
function placesOn(app, data, panel, cell) {
  const back = data.direction === "backward";
  const reader = back ? app.model.byName.get(panel.layer) : null;
  const window = reader?.window;
  if (["affine_grid", "grid_sample"].includes(reader?.family)) return []; // it reads elsewhere
  if (window) return readersOf(window, cell, panel.full);
  const inside = cell[0] < panel.full[0] && cell[1] < panel.full[1];
  const same = back || app.model.facts(data.family).place;
  return same && inside ? [cell] : [];
}

export function chosenRow(app, data) {
  const rows = data.panels.filter((panel) => panel.role === "source").map((panel) => panel.row);
  const { row } = app.store.state;
  if (rows.includes(row)) return row;
  const weighed = app.store.get("tab") === "gradient" ? data.panels.find((panel) => panel.role === "kernel" && panel.place.join() === app.store.get("weighed")) : null;
  if (weighed) return weighed.row;
  const { unit } = app.store.state;
  const kernels = data.panels.some((panel) => panel.role === "kernel");
  if (!kernels || !unit) return rows[0] ?? 0;
  const box = windowBox(data.window, app.model.cellOf(data.layer, unit));
  let best = 0;
  let size = -1;
  for (const panel of data.panels) {
    if (panel.role !== "source") continue;
    const sum = Math.abs(subtotal(data, panel, box) ?? 0);
    if (sum > size) {
      size = sum;
      best = panel.row;
    }
  }
  return best;
}

function drawWindow(painter, at, panel, box, colour, width) {
  const sx = at.w / panel.full[1];
  const sy = at.h / panel.full[0];
  const x = at.x + box.start[1] * sx;
  const y = at.y + box.start[0] * sy;
  painter.rect(x, y, Math.max(3, box.reach[1] * sx), Math.max(3, box.reach[0] * sy), { stroke: colour, width });
  const beyond = box.start.some((s, d) => s < 0 || s + box.reach[d] > panel.full[d]);
  if (beyond) painter.rect(x, y, box.reach[1] * sx, box.reach[0] * sy, { stroke: colour, width: 1, dash: [2, 2] });
}

function mark(painter, at, panel, cell, colour, width) {
  const sx = at.w / panel.full[1];
  const sy = at.h / panel.full[0];
  painter.rect(at.x + cell[1] * sx - 1, at.y + cell[0] * sy - 1, Math.max(4, sx + 2), Math.max(4, sy + 2), { stroke: colour, width });
}

// What is lit because a weight, or a cell of a linked picture, is under the pointer.
function drawLights(app, painter) {
  for (const light of app.store.get("lights")) {
    painter.rect(light.x, light.y, light.w, light.h, { stroke: light.colour ?? palette.warn, width: light.width ?? 2, alpha: 0.95 });
  }
}
