// Where the columns stand on the board, which part of them is in sight, and how large they are.

import { arrange } from "./draw/columns.js";

const LEAST = 0.1;
const MOST = 4;
const STEP = 1.25;
const FOOT = 30; // what stands below a column in words
const SIZES = ["width", "height", "tileWidth", "tileHeight", "gap", "cell", "cellWidth", "columnWidth"];

export class Camera {
  constructor(app) {
    this.app = app;
    this.x = 0;
    this.y = 0;
    this.zoom = 1;
    this.base = null;
    this.layout = null;
    this.shownBy = new Map();
  }

  relayout() {
    if (!this.app.stage.width) return;
    this.base = arrange(this.app.model, this.app.graph, this.app.stage.width, this.app.stage.height);
    this.move(0);
  }

  // The farthest that it can be moved to the right and down.
  get reach() {
    const lowest = Math.max(...[...this.base.boxes.values()].map((box) => box.y + box.height));
    const below = this.base.top + (lowest - this.base.top) * this.zoom + FOOT - this.app.stage.height;
    return { x: Math.max(0, this.base.width * this.zoom - this.app.stage.width), y: this.zoom > 1 ? Math.max(0, below) : 0 };
  }

  move(by, down = 0) {
    const { reach, x, y, layout } = this;
    this.x = Math.min(reach.x, Math.max(0, this.x + by));
    this.y = Math.min(reach.y, Math.max(0, this.y + down));
    this.layout = enlarged(this.base, this.zoom, this.y);
    this.shownBy = new Map();
    for (const box of this.layout.boxes.values()) this.shownBy.set(box.item.shows, box);
    this.app.onlayout?.();
    if (x !== this.x || y !== this.y || layout !== this.layout) this.app.pointer?.forget();
  }

  // The zoom at which the whole network stands on the board.
  get whole() {
    return Math.max(LEAST, Math.min(1, this.app.stage.width / this.base.width));
  }

  // Larger or smaller about a point of the board, by default its middle; the whole network is the smallest.
  zoomTo(zoom, at = { x: this.app.stage.width / 2, y: this.app.stage.height / 2 }) {
    const before = this.zoom;
    this.zoom = Math.min(MOST, Math.max(this.whole, zoom));
    const below = at.y - this.base.top;
    this.move(((at.x + this.x) / before) * this.zoom - at.x - this.x, ((below + this.y) / before) * this.zoom - below - this.y);
    this.app.render(false);
  }

  zoomBy(steps) {
    this.zoomTo(this.zoom * STEP ** steps);
  }

  // The whole network on the board; again, its own size.
  fit() {
    this.zoomTo(this.zoom === this.whole ? 1 : this.whole);
  }

  reveal(name) {
    const box = this.boxOf(name);
    if (!box) return;
    if (box.x - this.x < 20) this.move(box.x - this.x - 40);
    else if (box.x + box.width - this.x > this.app.stage.width - 20) this.move(box.x + box.width - this.x - this.app.stage.width + 40);
  }

  boxOf(name) {
    return this.shownBy?.get(name) ?? null;
  }

  // Whether a layer's maps stand on the board now, not to the left or right of it.
  inSight(name) {
    const box = this.boxOf(name);
    return box?.kind === "tiles" && this.onBoard(box);
  }

  onBoard(box) {
    return box.x - this.x < this.app.stage.width && box.x + box.width - this.x > 0;
  }
}

// The same columns, `zoom` times as large, `y` further up; smaller ones keep to the middle of the board.
function enlarged(base, zoom, y) {
  if (zoom === 1) return base;
  const top = base.top - y + (zoom < 1 ? ((base.height - base.top) * (1 - zoom)) / 2 : 0);
  const boxes = new Map();
  for (const [name, box] of base.boxes) {
    const large = { ...box, x: box.x * zoom, columnX: box.columnX * zoom, y: top + (box.y - base.top) * zoom };
    for (const size of SIZES) if (box[size] !== undefined) large[size] = box[size] * zoom;
    boxes.set(name, large);
  }
  return { boxes, gap: base.gap * zoom, top, width: base.width * zoom, height: base.height };
}
