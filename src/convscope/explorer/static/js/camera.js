// Where the columns stand on the board, and which part of them is in sight.

import { arrange } from "./draw/columns.js";

export class Camera {
  constructor(app) {
    this.app = app;
    this.x = 0;
    this.layout = null;
    this.shownBy = new Map();
  }

  relayout() {
    if (!this.app.stage.width) return;
    this.layout = arrange(this.app.model, this.app.graph, this.app.stage.width, this.app.stage.height);
    this.shownBy = new Map();
    for (const box of this.layout.boxes.values()) this.shownBy.set(box.item.shows, box);
    this.move(0);
    this.app.onlayout?.();
  }

  move(by) {
    const most = Math.max(0, this.layout.width - this.app.stage.width);
    this.x = Math.min(most, Math.max(0, this.x + by));
    this.app.onlayout?.();
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
    return box?.kind === "tiles" && box.x - this.x < this.app.stage.width && box.x + box.width - this.x > 0;
  }
}
