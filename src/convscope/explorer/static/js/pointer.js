// The pointer on the board: hovering shows numbers and connections, clicking opens, clicking beside goes back, dragging
// moves along a long network.

import { $ } from "./core/dom.js";
import { short } from "./core/format.js";
import { mapAt, tilePlace } from "./draw/columns.js";
import { palette } from "./draw/palette.js";
import { hoverText } from "./scenes/overview.js";
import { windowBox } from "./scenes/windows.js";

export class Pointer {
  constructor(app) {
    this.app = app;
    this.board = $("#board");
    this.tip = $("#tip");
    this.last = null;
    this.turn = 0; // how often it was on something else
    this.board.addEventListener("pointermove", (event) => this.move(event));
    this.fingers = new Map();
    this.board.addEventListener("pointercancel", (event) => {
      this.fingers.delete(event.pointerId);
      this.dragging = null; // the finger scrolls the page
    });
    this.board.addEventListener("pointerleave", () => this.leave());
    this.board.addEventListener("pointerdown", (event) => this.down(event));
    this.board.addEventListener("pointerup", (event) => this.up(event));
    this.board.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  point(event) {
    const rect = this.board.getBoundingClientRect();
    return { x: event.clientX - rect.left, y: event.clientY - rect.top };
  }

  move(event) {
    const at = this.point(event);
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, at);
    if (this.fingers.size === 2) {
      this.pinch();
      return;
    }
    if (this.dragging) {
      const by = this.dragging.x - at.x;
      const down = this.dragging.y - at.y;
      if (Math.hypot(by, down) > 4 || this.moved) {
        this.moved = true;
        if (!this.app.apart) this.app.camera.move(by, down);
        this.dragging = at;
        this.app.render(false);
      }
      return;
    }
    this.last = at;
    this.look(at);
  }

  // Two fingers: as much larger as they have come apart, about the middle between them.
  pinch() {
    const [a, b] = this.fingers.values();
    const apart = Math.hypot(a.x - b.x, a.y - b.y);
    this.pinched ??= { apart, zoom: this.app.camera.zoom };
    this.moved = true;
    this.tip.hidden = true;
    if (!this.app.apart) this.app.camera.zoomTo((this.pinched.zoom * apart) / Math.max(1, this.pinched.apart), { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 });
  }

  // The same place once more: the numbers under a resting pointer follow a new frame.
  again() {
    if (this.last && !this.tip.hidden) this.look(this.last);
  }

  // What it was on is no longer there: what is told of that is taken away, also a number that is still to come.
  forget() {
    this.turn += 1;
    this.tip.hidden = true;
  }

  look(at) {
    this.turn += 1;
    if (this.app.apart) this.lookElastic(at);
    else this.lookOverview(at);
  }

  lookOverview(at) {
    const { app } = this;
    const target = this.find(at);
    const before = app.store.get("hover");
    this.board.querySelector("canvas").style.cursor = target ? "pointer" : "default";
    if (!target) {
      this.tip.hidden = true;
      app.store.set({ hover: null });
      return;
    }
    const other = before?.layer !== target.layer || before.map !== target.map;
    target.since = other ? performance.now() : before.since;
    app.store.set({ hover: target });
    if (other) this.fadeIn();
    const quantity = app.store.get("show");
    if (target.map === null || quantity === "weight" || quantity === "gradient") {
      this.showTip(at, hoverText(app, null), null);
      return;
    }
    const { turn } = this;
    app.frames.values(target.layer, target.map ?? 0, quantity).then((found) => {
      if (turn !== this.turn) return;
      const [row, column] = target.cell ?? [0, 0];
      const value = found.values[row * found.shape[found.shape.length - 1] + column];
      this.showTip(at, hoverText(app, value ?? null), value);
    }).catch(() => {});
  }

  fadeIn() {
    const { app } = this;
    if (app.stage.reduced.matches) return;
    const step = () => {
      app.stage.request();
      if (app.store.get("hover") && app.hoverStrength() < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  find({ x, y }) {
    const { app } = this;
    const sx = x + app.camera.x;
    for (const box of app.camera.layout.boxes.values()) {
      const map = mapAt(box, sx, y);
      if (map === null) continue;
      const layer = box.item.shows;
      const place = tilePlace(box, map);
      const [rows, columns] = app.model.sizeOf(layer);
      const row = Math.floor(((y - place.y) / place.h) * rows);
      const column = Math.floor(((sx - place.x) / place.w) * columns);
      const inside = row >= 0 && column >= 0 && row < rows && column < columns;
      return { layer, map, cell: inside && rows * columns > 1 ? [row, column] : null };
    }
    return null;
  }

  hit(at) {
    return this.app.hits.find((hit) => at.x >= hit.x && at.y >= hit.y && at.x < hit.x + hit.w && at.y < hit.y + hit.h) ?? null;
  }

  cellIn(hit, at) {
    const { panel } = hit;
    return [
      Math.min(panel.full[0] - 1, Math.floor(((at.y - hit.y) / hit.h) * panel.full[0])),
      Math.min(panel.full[1] - 1, Math.floor(((at.x - hit.x) / hit.w) * panel.full[1])),
    ];
  }

  lookElastic(at) {
    const { app } = this;
    const hit = this.hit(at);
    const canvas = this.board.querySelector("canvas");
    canvas.style.cursor = hit ? "pointer" : "default";
    if (!hit) {
      const grid = this.inGrid(at);
      if (grid) this.showTip(at, grid.text, grid.value);
      else this.tip.hidden = true;
      app.store.set({ lights: [] });
      return;
    }
    const { panel } = hit;
    const cell = this.cellIn(hit, at);
    const exact = panel.full[0] === panel.height && panel.full[1] === panel.width;
    const value = exact ? panel.values[cell[0] * panel.width + cell[1]] : null;
    app.store.set({ lights: this.link(hit, cell) });
    const label = this.label(panel, cell);
    if (value !== null || panel.role === "partial" || panel.role === "rest" || panel.unfold) {
      this.showTip(at, value === null ? label : `${label} = ${short(value)}`, value);
      return;
    }
    const { turn } = this;
    app.frames.values(panel.layer, panel.map, panel.kind).then((found) => {
      if (turn !== this.turn) return;
      const exactValue = found.values[cell[0] * found.shape[found.shape.length - 1] + cell[1]];
      this.showTip(at, `${label} = ${short(exactValue)}`, exactValue);
    }).catch(() => {});
  }

  label(panel, cell) {
    const { app } = this;
    if (panel.role === "kernel" && panel.unfold) return `w · ${app.model.folded(app.apart.layer, ...cell)}`;
    if (panel.role === "kernel") return `w (${cell.join(", ")})`;
    if (panel.unfold) return `${panel.layer} · ${app.model.folded(app.apart.layer, ...cell)}`;
    if (panel.role === "partial") return `${app.t("partial_sum")} (${cell.join(", ")})`;
    if (panel.role === "rest") return `${app.t("rest")} (${cell.join(", ")})`;
    const name = panel.layer === "input" ? app.t("input") : panel.layer;
    return `${name} · ${panel.map} · (${cell.join(", ")})`;
  }

  // Linked windows: a cell of the output lights its window on every source; a cell of a source the output whose window
  // it is the middle of; a weight every position that it touches.
  link(hit, cell) {
    const { app } = this;
    const data = app.apart;
    if (!data.window || app.store.get("unit")) return hit.panel.unfold ? this.lightUnfolded(cell) : [];
    const sources = app.hits.filter((each) => each.panel.role === "source");
    const outs = app.hits.filter((each) => ["out", "activation", "partial", "rest"].includes(each.panel.role));
    const { panel } = hit;
    if (panel.role === "kernel") return this.lightWeight(hit, cell, sources);
    let output = cell;
    if (panel.role === "source") {
      const [out] = outs;
      const w = windowBox(data.window, [0, 0]);
      const stride = data.window.stride.length === 1 ? [1, ...data.window.stride] : data.window.stride;
      output = cell.map((at, d) => Math.round((at - w.start[d] - (w.reach[d] - 1) / 2) / stride[d]));
      output = output.map((at, d) => Math.min(out.panel.full[d] - 1, Math.max(0, at)));
    }
    const box = windowBox(data.window, output);
    return [
      ...sources.map((each) => this.area(each, box.start, box.reach)),
      ...outs.map((each) => ({ ...this.area(each, output, [1, 1]), colour: palette.ink })),
    ];
  }

  lightWeight(hit, cell, sources) {
    const { app } = this;
    const data = app.apart;
    const source = sources.find((each) => each.panel.row === hit.panel.row);
    const w = windowBox(data.window, [0, 0]);
    const out = data.panels.find((panel) => panel.role === "out");
    const stride = data.window.stride.length === 1 ? [1, ...data.window.stride] : data.window.stride;
    const first = cell.map((k, d) => w.start[d] + k * w.dilation[d]);
    const reach = out.full.map((n, d) => (n - 1) * stride[d] + 1);
    return [...(source ? [this.area(source, first, reach)] : []), { ...this.area(hit, cell, [1, 1]), colour: palette.ink }];
  }

  lightUnfolded(cell) {
    return this.app.hits.filter((each) => each.panel.unfold).map((each) => ({ ...this.area(each, cell, [1, 1]), colour: palette.ink }));
  }

  area(hit, start, reach) {
    const sx = hit.w / hit.panel.full[1];
    const sy = hit.h / hit.panel.full[0];
    return { x: hit.x + start[1] * sx - 1, y: hit.y + start[0] * sy - 1, w: Math.max(4, reach[1] * sx + 2), h: Math.max(4, reach[0] * sy + 2) };
  }

  inGrid(at) {
    for (const grid of this.app.gridHits ?? []) {
      const column = Math.floor((at.x - grid.x) / grid.cell);
      const row = Math.floor((at.y - grid.y) / grid.cell);
      if (column < 0 || row < 0 || column >= grid.kw || row >= grid.kh) continue;
      const k = row * grid.kw + column;
      const { cells, kernel } = grid;
      const place = `(${cells[k].row}, ${cells[k].column})`;
      const padding = cells[k].inside ? "" : ` · ${this.app.t("padding")}`;
      const product = kernel ? ` · w = ${short(kernel.values[k])} · w·x = ${short(cells[k].value * kernel.values[k])}` : "";
      return { text: `x ${place} = ${short(cells[k].value)}${padding}${product}`, value: grid.values[k] };
    }
    return null;
  }

  showTip(at, text, value) {
    const { tip } = this;
    tip.textContent = text;
    if (value === null || value === undefined) tip.removeAttribute("data-exact");
    else tip.setAttribute("data-exact", String(value));
    tip.hidden = false;
    const { clientWidth: width, clientHeight: height } = this.board;
    const x = Math.min(at.x + 14, width - tip.offsetWidth - 8);
    const y = at.y + 20 + tip.offsetHeight > height ? at.y - tip.offsetHeight - 12 : at.y + 18;
    tip.style.transform = `translate(${Math.round(Math.max(4, x))}px, ${Math.round(y)}px)`;
  }

  leave() {
    this.dragging = null;
    this.last = null;
    this.forget();
    this.app.store.set({ lights: [], hover: null });
  }

  down(event) {
    if (event.target.closest("button")) return;
    this.dragging = this.point(event);
    this.moved = false;
    if (event.pointerType === "touch") this.fingers.set(event.pointerId, this.dragging);
    this.board.setPointerCapture?.(event.pointerId);
  }

  up(event) {
    const at = this.point(event);
    const was = this.dragging;
    this.dragging = null;
    this.fingers.delete(event.pointerId);
    this.pinched = null;
    if (!was || this.moved) return;
    this.click(at);
  }

  click(at) {
    const { app } = this;
    if (!app.apart) {
      const target = this.find(at);
      if (!target) {
        app.selection.up();
        return;
      }
      if (target.layer === "input") {
        if (target.cell) app.store.set({ pixel: target.cell, tab: "field" });
        return;
      }
      this.tip.hidden = true;
      app.selection.select(target.layer, target.map);
      return;
    }
    if (!app.selection.current) return; // what stands there is not what is chosen any more
    const hit = this.hit(at);
    if (!hit) {
      if (!this.inGrid(at)) app.selection.up();
      return;
    }
    const { panel } = hit;
    const cell = this.cellIn(hit, at);
    const { layer, map, unit } = app.store.state;
    if (panel.role === "out" || panel.role === "partial" || panel.role === "rest") app.selection.select(layer, map, app.model.unitOf(layer, map, cell));
    else if (panel.role === "activation") app.selection.select(panel.layer, map, app.model.unitOf(panel.layer, map, cell));
    else if (panel.role === "kernel") {
      const index = panel.unfold ? [...panel.place, app.model.folded(layer, ...cell)] : [...panel.place, ...this.flipped(cell, panel)];
      if (panel.layer !== layer) app.selection.select(panel.layer, panel.map);
      app.store.set({ weight: { parameter: "weight", index }, tab: "gradient" });
    } else if (panel.unfold) {
      const node = app.model.byName.get(layer);
      const k = app.model.folded(layer, ...cell);
      const source = app.model.byName.get(node.sources[0]);
      if (source && source.shape.length === 1) app.selection.select(source.name, k);
    } else if (unit) {
      app.store.set({ row: panel.row });
      app.onrow?.();
    } else if (panel.layer !== "input") app.selection.select(panel.layer, panel.map);
  }

  flipped(cell, panel) {
    const place = this.app.apart.window.kernel.length === 1 ? [cell[1]] : cell;
    if (!this.app.apart.flip) return place; // drawn rotated
    const size = [panel.height, panel.width].slice(-place.length);
    return place.map((at, d) => size[d] - 1 - at);
  }

  wheel(event) {
    const { camera } = this.app;
    if (event.ctrlKey && !this.app.apart) { // two fingers on a touch pad say it so
      event.preventDefault();
      camera.zoomTo(camera.zoom * Math.exp(-Math.max(-50, Math.min(50, event.deltaY)) / 100), this.point(event));
      return;
    }
    const across = Math.abs(event.deltaX) > Math.abs(event.deltaY);
    const { scrollHeight, clientHeight } = document.scrollingElement;
    if (!across && scrollHeight > clientHeight + 1) return; // the page itself can be scrolled
    const { reach } = camera;
    if (this.app.apart || reach.x + reach.y === 0) return;
    event.preventDefault();
    if (reach.y && !across) camera.move(0, event.deltaY);
    else camera.move(across ? event.deltaX : event.deltaY);
    this.app.render(false);
  }
}
