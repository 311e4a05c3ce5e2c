// A spatial transformer's grid over the picture it looks at, and the four pixels that one place of it mixes.

import { palette } from "../draw/palette.js";

const LINES = 9; // each way; more would hide the picture

// The four pixels around the place that a cell of the output is taken from, with their weights; null where only some
// places were told.
export function fourAround({ rows, columns, step }, [u, v]) {
  if (step !== 1 || rows[u]?.[v] === undefined) return null;
  const row = rows[u][v];
  const column = columns[u][v];
  const [top, left] = [Math.floor(row), Math.floor(column)];
  const [lower, right] = [row - top, column - left];
  const values = [(1 - lower) * (1 - right), (1 - lower) * right, lower * (1 - right), lower * right];
  return { start: [top, left], kernel: [2, 2], dilation: [1, 1], reach: [2, 2], weights: { values, limit: 1 }, row, column };
}

// Lines through the places, the output's upper edge thick, or the line of one row where that is what is chosen.
export function drawLattice(painter, at, panel, { rows, columns }, chosen = null) {
  const [sx, sy] = [at.w / panel.full[1], at.h / panel.full[0]];
  const place = (u, v) => [at.x + (columns[u][v] + 0.5) * sx, at.y + (rows[u][v] + 0.5) * sy];
  const [height, width] = [rows.length, rows[0].length];
  const line = (places, style) => painter.path(places.length > 1 ? places : [places[0], places[0]], style);
  const across = (u) => Array.from({ length: width }, (_, v) => place(u, v));
  const thin = { stroke: palette.warn, width: 0.8, alpha: 0.75 };
  for (const u of some(height)) line(across(u), thin);
  for (const v of some(width)) line(Array.from({ length: height }, (_, u) => place(u, v)), thin);
  line(across(chosen ?? 0), { stroke: palette.warn, width: 2.6 });
}

// A cell's own place on the picture.
export function drawPlace(painter, at, panel, { row, column }) {
  const [x, y] = [at.x + ((column + 0.5) * at.w) / panel.full[1], at.y + ((row + 0.5) * at.h) / panel.full[0]];
  painter.rect(x - 3, y - 3, 6, 6, { fill: palette.warn, stroke: palette.raised, width: 1.2, radius: 3 });
}

function some(count) {
  const shown = Math.min(LINES, count);
  return Array.from({ length: shown }, (_, k) => (shown > 1 ? Math.round((k * (count - 1)) / (shown - 1)) : 0));
}
