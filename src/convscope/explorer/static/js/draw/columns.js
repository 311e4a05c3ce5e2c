// Where everything stands in the overview, computed from the graph: a column for each depth, branches in lanes, wide
// layers as grids, vectors as strips.

// Tile, gap and width of the answers' column: the first with which everything stands beside each other.
const FITS = [[46, 14, 140], [42, 14, 140], [38, 14, 140], [34, 14, 140], [30, 14, 140], [30, 9, 116], [26, 7, 104], [22, 5, 96]];
const MIN_TILE = 20;
const GAP = 5;
const HEAD = 58;
const FOOT = 30; // below the longest column: the limit of its scale, how many maps there are
const LANES = 60; // from one lane to the next: the limit and number of the upper one, name and size of the lower one
const TIGHT = 26; // the same where that leaves the maps no room
const LOWEST = 36; // of a lane's maps
const MIN_COLUMN = 30; // so that a layer's short name fits over a strip
const MIN_MOVED = 46; // the same of a board that is moved along: for a path as "backbone.0" and a size as "120×160"
export const OUTPUT_ROWS = 12;

export function isVector(shape) {
  return shape.length <= 1 || (shape.length === 3 && shape[1] * shape[2] === 1);
}

export function mapCount(shape) {
  return shape.length ? shape[0] : 1;
}

export function mapSize(shape) {
  if (shape.length <= 1) return [1, 1];
  if (shape.length === 2) return [1, shape[1]];
  return [shape.slice(1, -1).reduce((a, b) => a * b, 1), shape[shape.length - 1]];
}

export function arrange(model, layout, width, height) {
  let found = null;
  for (const fit of FITS) {
    found = tryWith(model, layout, width, height, fit);
    if (found.width <= width) return found;
  }
  return tryWith(model, layout, width, height, FITS[0], MIN_MOVED); // too long for any: it is moved along
}

function tryWith(model, layout, width, height, [maxTile, least, answers], narrowest = MIN_COLUMN) {
  const ranks = new Map();
  for (const item of layout.items) {
    if (!ranks.has(item.rank)) ranks.set(item.rank, []);
    ranks.get(item.rank).push(item);
  }
  const columns = [...ranks.keys()].sort((a, b) => a - b).map((rank) => ranks.get(rank).sort((a, b) => a.lane - b.lane));
  const skips = layout.edges.some(([from, to]) => rankOf(layout, to) - rankOf(layout, from) > 1);
  const top = HEAD + (skips ? 34 : 10);
  const placed = columns.map((items) => {
    const each = (height - top - FOOT) / items.length;
    const between = items.length === 1 ? 0 : each - LANES >= LOWEST ? LANES : TIGHT;
    const boxes = items.map((item) => shape(model, item, Math.max(LOWEST, each - between), maxTile, answers));
    return { items, boxes, between, width: Math.max(narrowest, ...boxes.map((box) => box.width)) };
  });
  const total = placed.reduce((sum, column) => sum + column.width, 0);
  const margin = 18;
  const free = (width - total - 2 * margin) / Math.max(1, placed.length - 1);
  const gap = Math.min(84, Math.max(least, free));
  let x = margin + Math.max(0, (width - 2 * margin - total - gap * (placed.length - 1)) / 2);
  const boxes = new Map();
  for (const column of placed) {
    const heights = column.boxes.reduce((sum, box) => sum + box.height, 0) + column.between * (column.items.length - 1);
    let y = top + Math.max(0, (height - top - FOOT - heights) / 2);
    column.items.forEach((item, lane) => {
      const box = column.boxes[lane];
      boxes.set(item.name, { ...box, item, x: x + (column.width - box.width) / 2, y, columnX: x, columnWidth: column.width, alone: column.items.length === 1 });
      y += box.height + column.between;
    });
    x += column.width + gap;
  }
  return { boxes, gap, top, width: x - gap + margin, height };
}

function rankOf(layout, name) {
  layout.byName ??= new Map(layout.items.map((item) => [item.name, item]));
  return layout.byName.get(name).rank;
}

function shape(model, item, height, maxTile, answers) {
  if (item.shows === "input") return inputBox(model, height, maxTile + 28);
  const node = model.byName.get(item.shows);
  const count = mapCount(node.shape);
  if (item.shows === model.output && isVector(node.shape)) return outputBox(count, height, answers);
  if (isVector(node.shape)) return stripBox(count, height);
  const [h, w] = mapSize(node.shape);
  const ratio = Math.min(2.6, Math.max(0.4, w / h));
  const shown = Math.min(count, 64);
  for (let columns = 1; ; columns++) {
    const rows = Math.ceil(shown / columns);
    const side = Math.min(maxTile, (height - GAP * (rows - 1)) / rows);
    if (side >= Math.min(MIN_TILE, maxTile) || columns >= 8 || rows === 1) {
      const tileHeight = Math.max(3, ratio > 1 ? side / Math.sqrt(ratio) : side);
      const tileWidth = Math.max(3, tileHeight * ratio);
      const gap = side < 12 ? 2 : GAP;
      return {
        kind: "tiles", count, shown, columns, tileWidth, tileHeight, gap,
        width: columns * (tileWidth + gap) - gap, height: rows * (tileHeight + gap) - gap,
      };
    }
  }
}

function inputBox(model, height, most) {
  const [, h, w] = model.picture_shape;
  const side = Math.min(most, height);
  if (model.sentences) return { kind: "input", width: Math.min(most, 8 * w), height: Math.min(height, 2 * most), count: 1, shown: 1 }; // a column a word
  const scale = side / Math.max(h, w);
  return { kind: "input", width: Math.max(8, w * scale), height: Math.max(8, h * scale), count: 1, shown: 1 };
}

function stripBox(count, height) {
  let columns = 1;
  while (columns < 64 && height / Math.ceil(count / columns) < 4.2) columns++;
  const rows = Math.ceil(count / columns);
  const cell = Math.min(13, height / rows);
  const cellWidth = columns === 1 ? Math.max(14, cell) : Math.min(cell, 8);
  return { kind: "strip", count, shown: count, columns, cell, cellWidth, width: columns * cellWidth, height: rows * cell };
}

function outputBox(count, height, width) {
  const rows = Math.min(count, OUTPUT_ROWS);
  const cell = Math.min(30, height / rows);
  return { kind: "output", count, shown: rows, columns: 1, cell, width, height: rows * cell };
}

// The place of map number `map` in a box.
export function tilePlace(box, map) {
  if (box.kind === "tiles") {
    const column = map % box.columns;
    const row = Math.floor(map / box.columns);
    return { x: box.x + column * (box.tileWidth + box.gap), y: box.y + row * (box.tileHeight + box.gap), w: box.tileWidth, h: box.tileHeight };
  }
  if (box.kind === "strip") {
    return { x: box.x + (map % box.columns) * box.cellWidth, y: box.y + Math.floor(map / box.columns) * box.cell, w: box.cellWidth, h: box.cell };
  }
  if (box.kind === "output") {
    const row = box.order ? box.order.indexOf(map) : map;
    return { x: box.x, y: box.y + Math.max(0, row) * box.cell, w: box.width, h: box.cell };
  }
  return { x: box.x, y: box.y, w: box.width, h: box.height };
}

// Which map stands at a point of a box; null beside it.
export function mapAt(box, x, y) {
  if (x < box.x - 2 || y < box.y - 2 || x > box.x + box.width + 2 || y > box.y + box.height + 2) return null;
  if (box.kind === "input") return 0;
  if (box.kind === "output") {
    const row = Math.floor((y - box.y) / box.cell);
    return row < 0 || row >= box.shown ? null : (box.order?.[row] ?? row);
  }
  const w = box.kind === "tiles" ? box.tileWidth + box.gap : box.cellWidth;
  const h = box.kind === "tiles" ? box.tileHeight + box.gap : box.cell;
  const column = Math.min(box.columns - 1, Math.max(0, Math.floor((x - box.x) / w)));
  const map = Math.max(0, Math.floor((y - box.y) / h)) * box.columns + column;
  return map < box.shown ? map : null;
}
