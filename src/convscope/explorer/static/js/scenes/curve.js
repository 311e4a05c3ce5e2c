// An activation's own curve, between the map that goes in and the map that comes out.

import { palette } from "../draw/palette.js";
import { find } from "./windows.js";

// y = f(u) with the unit's own point on it.
export function drawCurve(painter, plan, data, cell) {
  const source = find(data, "source");
  const out = find(data, "out");
  if (!source || source.full[0] !== source.height) return;
  const at = cell[0] * source.width + cell[1];
  const points = [...source.values].map((u, k) => [u, out.values[k]]).sort((a, b) => a[0] - b[0]);
  const [u, y] = [source.values[at], out.values[at]];
  const low = Math.min(points[0][0], -1);
  const high = Math.max(points[points.length - 1][0], 1);
  const bottom = Math.min(...points.map((p) => p[1]), 0);
  const ceiling = Math.max(...points.map((p) => p[1]), 1);
  const w = 130;
  const h = 96;
  const from = plan.places.get(source);
  const to = plan.places.get(out);
  const x0 = (from.x + from.w + to.x) / 2 - w / 2;
  const y0 = plan.middle - h / 2;
  const px = (value) => x0 + ((value - low) / (high - low)) * w;
  const py = (value) => y0 + h - ((value - bottom) / (ceiling - bottom || 1)) * h;
  painter.rect(x0 - 8, y0 - 8, w + 16, h + 16, { fill: palette.surface, stroke: palette.line, radius: 8 });
  painter.path([[px(low), py(0)], [px(high), py(0)]], { stroke: palette.line, width: 1 });
  painter.path([[px(0), py(bottom)], [px(0), py(ceiling)]], { stroke: palette.line, width: 1 });
  const step = Math.max(1, Math.floor(points.length / 80));
  painter.path(points.filter((_, k) => k % step === 0).map(([a, b]) => [px(a), py(b)]), { stroke: palette.activation, width: 1.8 });
  painter.rect(px(u) - 4, py(y) - 4, 8, 8, { fill: palette.warn, radius: 4 });
}
