// Under a unit's window: the values, the kernel, and their products, cell by cell.

import { digitsFor, fixed } from "../core/format.js";
import { colourAt, inkOn } from "../draw/colour.js";
import { palette } from "../draw/palette.js";
import { find, patch } from "./windows.js";

// Three grids below each other: the values under the window, the kernel, the products.
export function drawGrids(app, painter, plan, data, box, row, late) {
  const source = find(data, "source", row);
  const cells = source && patch(source, box);
  if (!cells) return;
  const kernel = box.weights ?? find(data, "kernel", row);
  const [kh, kw] = box.kernel;
  const letter = data.direction === "backward" ? "δ" : "x";
  const grids = [{ title: letter, kind: source.kind === "input" ? "activation" : source.kind, values: cells.map((c) => c.value), limit: source.limit, padding: cells.map((c) => !c.inside) }];
  if (kernel) {
    const products = cells.map((c, k) => c.value * kernel.values[k]);
    grids.push({ title: "w", kind: "weight", values: [...kernel.values], limit: kernel.limit });
    grids.push({ title: `w · ${letter}`, kind: source.kind === "delta" ? "delta" : "activation", values: products, limit: Math.max(...products.map(Math.abs), 1e-12), padding: cells.map((c) => !c.inside) });
  }
  const left = plan.single ? plan.columns.source + plan.room * 0 + Math.min(110, plan.side) : plan.columns.source + plan.side / 2 + (kernel ? 70 : 24);
  const right = plan.columns.sum - 34;
  const each = plan.room / grids.length;
  const cell = Math.max(4, Math.min(40, (right - left) / kw, (each - 34) / kh));
  const x = (left + right) / 2 - (kw * cell) / 2;
  app.gridHits = [];
  grids.forEach((grid, index) => {
    const y = plan.top + each * index + (each - kh * cell) / 2 + 8;
    const colour = palette[grid.kind] ?? palette.activation;
    painter.text(grid.title, x, y - 11, { size: 13, weight: 600, colour: index === 2 ? palette.ink : colour, alpha: late });
    if (index > 0) painter.text(index === 1 ? "×" : "=", x - (plan.narrow ? 9 : 20), y + (kh * cell) / 2, { size: plan.narrow ? 13 : 17, colour: palette.soft, align: "center", alpha: late });
    const peak = Math.max(...grid.values.map(Math.abs), 1e-30);
    const power = peak < 0.02 && peak > 1e-29 ? Math.floor(Math.log10(peak)) : 0; // small numbers share a power of ten
    const fitting = Math.floor((cell - 3) / (cell >= 36 ? 6.3 : 5.4)); // characters that a cell has room for
    const whole = Math.max(1, Math.floor(Math.log10(peak / 10 ** power)) + 1) + (grid.values.some((value) => value < 0) ? 1 : 0);
    const digits = Math.min(power ? 2 : Math.min(3, digitsFor(peak) - 2), fitting - whole - 1);
    if (power) painter.text(`· 10${superscript(power)}`, x + Math.max(kw * cell, 76), y - 11, { size: 11.5, colour: palette.soft, align: "right", alpha: late });
    const winner = best(grid.values, grid.padding, { largest: 1, smallest: -1 }[app.model.facts(data.family).picks]);
    grid.values.forEach((value, k) => {
      const cx = x + (k % kw) * cell;
      const cy = y + Math.floor(k / kw) * cell;
      const pad = grid.padding?.[k];
      painter.rect(cx, cy, cell - 1, cell - 1, { fill: pad ? palette.paper : colourAt(grid.kind, value, grid.limit), stroke: pad ? palette.lineStrong : palette.line, width: 0.75, dash: pad ? [2, 2] : undefined, radius: 2, alpha: late });
      const ink = pad ? palette.soft : inkOn(grid.kind, value, grid.limit);
      if (cell >= 27) painter.text(pad ? "0" : fixed(value / 10 ** power, Math.max(0, digits)), cx + (cell - 1) / 2, cy + cell / 2, { size: cell >= 36 ? 10.5 : 9, mono: true, colour: ink, align: "center", alpha: late });
      else if (cell >= 9 && value !== 0) painter.text(value < 0 ? "−" : "+", cx + (cell - 1) / 2, cy + cell / 2, { size: Math.min(13, cell), colour: ink, align: "center", alpha: late });
      if (k === winner) painter.rect(cx - 1, cy - 1, cell + 1, cell + 1, { stroke: palette.ink, width: 2.2, radius: 3, alpha: late });
    });
    app.gridHits.push({ grid: index, x, y, cell, kw, kh, row, values: grid.values, cells, kernel });
  });
  const out = plan.places.get(find(data, "out"));
  const last = app.gridHits[app.gridHits.length - 1];
  if (!kernel && out) painter.path([[last.x + kw * cell + 6, plan.middle], [out.x - 6, plan.middle]], { stroke: palette.lineStrong, width: 1.2, alpha: late });
  else painter.path([[x + kw * cell + 6, plan.middle], [plan.columns.sum - 17, plan.middle]], { stroke: palette.lineStrong, width: 1.2, alpha: late });
}

// The term under the pointer in every grid.
export function drawTerm(app, painter) {
  const { litTerm } = app.store.state;
  for (const { x, y, cell, kw, row } of litTerm ? app.gridHits : []) {
    if (row === litTerm.row) painter.rect(x + (litTerm.k % kw) * cell - 1, y + Math.floor(litTerm.k / kw) * cell - 1, cell + 1, cell + 1, { stroke: palette.warn, width: 2.5, radius: 3 });
  }
}

function superscript(power) {
  return String(power).replace("-", "⁻").replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[digit]);
}

// The place that is picked; −1 where none is.
function best(values, padding, sign) {
  let found = -1;
  if (!sign) return found;
  values.forEach((value, k) => {
    if (!padding?.[k] && (found < 0 || value * sign > values[found] * sign)) found = k;
  });
  return found;
}
