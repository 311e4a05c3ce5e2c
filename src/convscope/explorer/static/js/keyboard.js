// Everything by keys: arrows over layers, maps and units, Enter opens, Escape goes back, ? helps.

import { $, say } from "./core/dom.js";
import { short } from "./core/format.js";
import { t } from "./core/i18n.js";
import { isVector } from "./draw/columns.js";
import { tabsOf } from "./views/detail.js";
import { openHelp } from "./views/help.js";

export class Keyboard {
  constructor(app) {
    this.app = app;
    document.addEventListener("keydown", (event) => this.page(event));
    const board = $("#board");
    board.tabIndex = -1;
    board.addEventListener("keydown", (event) => this.board(event));
  }

  page(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.closest?.("input, select, textarea, [role=dialog]");
    if (event.key === "Escape" && !typing) {
      this.app.selection.up();
      if (this.app.store.get("layer")) return;
      say(t("overview"));
      setTimeout(() => $("#heads button[tabindex='0']")?.focus());
      return;
    }
    if (typing) return;
    if (event.defaultPrevented) return;
    if (event.target === document.body) this.astray(event);
    this.travel(event);
    if (event.key === "?") {
      event.preventDefault();
      openHelp(this.app);
    }
    const letter = event.key.toLowerCase();
    if (letter === "p") $(this.app.model.sentences ? "#sentence" : "#pad").focus();
    if (letter === "p") event.preventDefault(); // it is not typed there
    const tabs = { f: "forward", b: "backward", g: "gradient", r: "field", s: "training", a: "bench", l: "likes", w: "surgery", d: "beside", h: "health", c: "lab" };
    if (tabsOf(this.app).includes(tabs[letter])) {
      this.app.store.set({ tab: tabs[letter] });
      say(t(`tab_${tabs[letter]}`));
    }
    const shows = { 1: "activation", 2: "delta", 3: "weight", 4: "gradient" };
    if (shows[event.key]) {
      this.app.store.set({ show: shows[event.key] });
      say(t(`show_${shows[event.key]}`));
    }
  }

  // An arrow with nothing in focus: on the board, unless it scrolls the page.
  astray(event) {
    const { app } = this;
    const down = ["ArrowUp", "ArrowDown"].includes(event.key);
    const { scrollHeight, clientHeight } = document.scrollingElement;
    if (!event.key.startsWith("Arrow") || (down && scrollHeight > clientHeight + 1)) return;
    if (app.store.get("layer")) {
      $("#board").focus({ preventScroll: true });
      this.board(event);
    } else app.focusHead($("#heads button[tabindex='0']")?.dataset.layer);
  }

  // Along the network and nearer to it; the first and the last layer; a layer by its name.
  travel(event) {
    const { app } = this;
    const ends = { Home: "first", End: "last" }[event.key];
    if (ends && !app.apart && (event.target === document.body || event.target.closest?.("#stage"))) {
      event.preventDefault();
      app.focusHead([...document.querySelectorAll("#heads button")].at(ends === "first" ? 0 : -1)?.dataset.layer);
    }
    if (event.key === "/") {
      event.preventDefault();
      app.find();
    }
    const zoom = { "+": 1, "=": 1, "-": -1 }[event.key];
    if (zoom) app.camera.zoomBy(zoom);
    if (event.key === "0") app.camera.zoomTo(1);
    if (event.key === "9") app.camera.fit();
    if (zoom || event.key === "0" || event.key === "9") say(`${Math.round(app.camera.zoom * 100)} %`);
    const turn = { "[": -1, "]": 1 }[event.key];
    if (turn && app.selection.current && !app.selection.turn(turn)) say(t("inputs_shown", app.selection.inputs)); // there are no others
  }

  // On a layer's head: left and right to the neighbours; on the opened map: over its units.
  board(event) {
    const { app } = this;
    const { layer, map, unit } = app.store.state;
    if (!layer || map === null) {
      this.onMaps(event);
      return;
    }
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const node = app.model.byName.get(layer);
    const count = app.model.countOf(layer);
    if (event.key === "PageDown" || event.key === "PageUp" || (step && isVector(node.shape))) {
      event.preventDefault();
      const by = event.key === "PageDown" || (step && step[0] + step[1] > 0) ? 1 : -1;
      app.selection.select(layer, (map + by + count) % count, isVector(node.shape) ? null : unit);
      if (unit && !isVector(node.shape)) app.selection.select(layer, (map + by + count) % count, [(map + by + count) % count, ...unit.slice(1)]);
      return;
    }
    const [rows, columns] = app.model.sizeOf(layer);
    if (event.key === "Home" || event.key === "End") {
      event.preventDefault();
      const to = event.key === "Home" ? 0 : count - 1;
      app.selection.select(layer, to, unit && !isVector(node.shape) ? [to, ...unit.slice(1)] : null);
      return;
    }
    if ((event.key === "Enter" || step) && !unit) { // the middle first
      event.preventDefault();
      app.selection.select(layer, map, app.model.unitOf(layer, map, [Math.floor(rows / 2), Math.floor(columns / 2)]));
      return;
    }
    if (!step || !unit) return;
    event.preventDefault();
    const cell = app.model.cellOf(layer, unit);
    const next = [(cell[0] + step[0] + rows) % rows, (cell[1] + step[1] + columns) % columns];
    app.selection.select(layer, map, app.model.unitOf(layer, map, next));
  }

  // Up and down over a layer's maps before one is opened; the value is spoken.
  onMaps(event) {
    const { app } = this;
    const name = event.target.closest?.("[data-layer]")?.dataset.layer ?? app.store.get("layer");
    if (!name || name === "input") return;
    const count = app.model.countOf(name);
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      const { hover } = app.store.state;
      const now = hover?.layer === name && hover.map !== null ? hover.map : event.key === "ArrowDown" ? -1 : count;
      const map = (now + (event.key === "ArrowDown" ? 1 : -1) + count) % count;
      const next = { layer: name, map, cell: null, since: 0 };
      app.store.set({ hover: next });
      const vector = isVector(app.model.byName.get(name).shape);
      app.frames.values(name, map).then((found) => {
        if (app.store.get("hover") !== next) return; // the pointer of the keys is further already
        const most = Math.max(...found.values);
        say(`${name}, ${app.model.mapName(name, map)}: ${vector ? short(found.values[0]) : `${app.t("largest")} ${short(most)}`}`);
      }).catch(() => {});
    }
    const { hover } = app.store.state;
    if (event.key === "Enter" && hover?.layer === name) {
      event.preventDefault();
      app.selection.select(name, hover.map);
      $("#board").focus();
    }
  }
}
