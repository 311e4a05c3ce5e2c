// The pen on the picture, and the picture by keys: the arrows move over its pixels, Space puts the pen down and lifts it,
// or uses the tool once.

import { say } from "../core/dom.js";
import { t } from "../core/i18n.js";

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
const SHARE = 8; // of a side: how far Shift and an arrow go

// pad: {size() → [rows, columns], begin(place), stroke(from, to), end() → promise, once(cell) → promise or nothing where
// the tool is a pen, value(cell), paint()}
export class KeyPen {
  constructor(app, canvas, pad) {
    Object.assign(this, { app, canvas, pad, cell: null, down: false });
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("focus", () => this.enter());
    canvas.addEventListener("blur", () => {
      this.lift();
      pad.paint();
    });
  }

  enter() {
    if (!this.canvas.matches(":focus-visible")) return; // by the pointer, which has its own place
    const [rows, columns] = this.pad.size();
    this.cell = (this.cell ?? [rows / 2, columns / 2]).map((at, d) => Math.min([rows, columns][d] - 1, Math.floor(at)));
    this.pad.paint();
  }

  // The pixel that it is on: orange where the pen is down.
  paint(context, across, down) {
    if (!this.cell || document.activeElement !== this.canvas) return;
    const side = Math.max(8, across);
    for (const [colour, width] of [["#000", 6], [this.down ? "#f5a83c" : "#fff", 3]]) {
      [context.strokeStyle, context.lineWidth] = [colour, width];
      context.strokeRect((this.cell[1] + 0.5) * across - side / 2, (this.cell[0] + 0.5) * down - side / 2, side, side);
    }
  }

  key(event) {
    const { pad } = this;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    const uses = event.key === " " || event.key === "Enter";
    if (event.key === "Escape" && this.down) this.lift();
    else if (step || uses) {
      if (!this.cell) this.enter();
      this.cell ??= pad.size().map((side) => Math.floor(side / 2));
      if (step) this.move(step, event.shiftKey);
      else this.use();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  move(step, far) {
    const { pad } = this;
    const size = pad.size();
    const from = this.cell;
    this.cell = from.map((at, d) => Math.min(size[d] - 1, Math.max(0, at + step[d] * (far ? Math.ceil(size[d] / SHARE) : 1))));
    if (this.down) pad.stroke(middle(from), middle(this.cell));
    pad.paint();
    this.tell();
  }

  tell() {
    const [row, column] = this.cell;
    say(t("say_pixel", { row, column, value: this.pad.value(this.cell) }));
  }

  async use() {
    const { pad } = this;
    if (this.down) {
      this.lift();
      return;
    }
    const used = pad.once(this.cell);
    if (used) {
      await used;
      this.tell();
      return;
    }
    this.down = true;
    pad.begin(middle(this.cell));
    say(t("pen_down"));
  }

  async lift() {
    if (!this.down) return;
    this.down = false;
    await this.pad.end();
    say(`${t("pen_up")} ${t("network_says")}: ${this.app.model.className(this.app.store.get("frame").predicted)}`);
  }
}

// A stroke of a round pen with soft edges, about as thick as handwriting in a 28-pixel picture.
export function draws(pixels, [channels, height, width], from, to, erases) {
  const radius = Math.max(0.9, Math.min(height, width) / 22);
  const steps = Math.max(1, Math.ceil(Math.hypot(to.x - from.x, to.y - from.y) / (radius / 2)));
  for (let step = 0; step <= steps; step++) {
    const cx = from.x + ((to.x - from.x) * step) / steps;
    const cy = from.y + ((to.y - from.y) * step) / steps;
    const reach = Math.ceil(radius + 1);
    for (let y = Math.max(0, Math.floor(cy - reach)); y < Math.min(height, cy + reach); y++) {
      for (let x = Math.max(0, Math.floor(cx - reach)); x < Math.min(width, cx + reach); x++) {
        const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(x + 0.5 - cx, y + 0.5 - cy)));
        for (let channel = 0; channel < channels; channel++) {
          const place = (channel * height + y) * width + x;
          pixels[place] = erases ? Math.min(pixels[place], Math.round(255 * (1 - cover))) : Math.max(pixels[place], Math.round(255 * cover));
        }
      }
    }
  }
}

function middle([row, column]) {
  return { x: column + 0.5, y: row + 0.5 };
}
