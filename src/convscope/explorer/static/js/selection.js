// What is chosen: a layer, a map, a unit; and the layer taken apart that belongs to it.

import { floats } from "./core/connection.js";
import { notice, say } from "./core/dom.js";
import { t } from "./core/i18n.js";
import { isVector, mapCount } from "./draw/columns.js";
import { floatsAtlas } from "./draw/atlas.js";

const PATIENCE = 150; // ms after a choice; then what was chosen before is not drawn any longer

export class Selection {
  constructor(app) {
    this.app = app;
    this.elastic = null;
    this.first = 0; // the place, by size, of the first input drawn
    this.turned = false; // whether others than the first, or than the chosen weight's, were asked for
  }

  // The layer taken apart, if it is the one chosen: after a choice the older one stands until the server has answered.
  get current() {
    const { layer, map } = this.app.store.state;
    return this.elastic?.key === `${layer}/${map}` ? this.elastic : null;
  }

  select(layer, map = null, unit = null) {
    const node = layer && this.app.model.byName.get(layer);
    if (node && map !== null && !unit && isVector(node.shape)) unit = node.shape.length === 3 ? [map, 0, 0] : this.app.model.unitOf(layer, map, [0, 0]);
    this.app.store.set({ layer, map, unit });
  }

  // One level back: unit → map → layer → overview.
  up() {
    const { layer, map, unit } = this.app.store.state;
    const node = layer && this.app.model.byName.get(layer);
    if (unit && !isVector(node.shape)) this.select(layer, map);
    else if (layer) this.app.store.set({ layer: null, map: null, unit: null });
    else if (this.app.store.get("field")) this.app.store.set({ field: null });
  }

  // The next or the last few of a map's inputs. → whether there are any
  turn(by) {
    const { current } = this;
    const first = current ? this.first + by * current.rows : -1;
    if (first < 0 || first >= current.count) return false;
    this.first = first;
    this.turned = true;
    this.app.store.set({ row: null });
    this.changed(false);
    return true;
  }

  // The input that a chosen weight is of comes onto the board.
  seek() {
    const { current } = this;
    const place = this.app.store.get("weighed");
    this.turned = false;
    if (place && current?.more && !current.panels.some((panel) => panel.role === "kernel" && panel.place.join() === place)) this.changed(false, false);
    else this.app.render(false);
  }

  // Which of a map's inputs are on the board.
  get inputs() {
    const { current } = this;
    return current && { first: current.first + 1, last: current.first + current.count - current.more, count: current.count };
  }

  // `words`: false where the panel beside the board stays as it is; `now`: what else is to change when the board does.
  async changed(animate, words = true, now = null) {
    const { layer, map } = this.app.store.state;
    this.app.store.set({ lights: [] });
    if (layer && map !== null) {
      const key = `${layer}/${map}`;
      if (key !== this.elastic?.key) {
        this.first = 0;
        this.turned = false;
        setTimeout(() => this.elastic && !this.current && this.app.render(false), PATIENCE);
      }
      const direction = this.app.store.get("tab") === "backward" ? "backward" : "forward";
      if (this.elastic && this.elastic.direction !== direction) this.first = 0;
      const { rule, weighed, tab } = this.app.store.state;
      const of = tab === "gradient" && weighed && !this.turned ? { kernel: weighed.split(",").map(Number) } : {};
      const answer = await this.app.connection.askLatest("elastic", "elastic", { layer, map, direction, rule, start: this.first, ...of }).catch((error) => {
        if (error.kind === "superseded" || error.kind === "lost") return null;
        throw error;
      }).finally(() => now?.());
      if (!answer || key !== `${this.app.store.get("layer")}/${this.app.store.get("map")}`) return;
      this.elastic = { ...answer, key };
      this.first = answer.first;
      shareScales(answer.panels);
      for (const panel of answer.panels) {
        panel.values = floats(answer, panel.offset, panel.height * panel.width);
        const kind = panel.kind === "input" ? "activation" : panel.kind;
        panel.atlas = floatsAtlas(panel.values, panel.height, panel.width, kind, panel.limit);
      }
    } else {
      this.elastic = null;
      now?.();
    }
    if (animate && layer) this.speak();
    this.app.render(animate);
    if (words) this.app.onselection?.();
  }

  speak() {
    const { layer, map, unit } = this.app.store.state;
    const node = this.app.model.byName.get(layer);
    if (map === null) say(t("say_layer", { layer, kind: this.app.model.familyName(node), shape: this.app.model.shapeText(node.shape) }));
    else if (!unit) say(t("say_map", { layer, map }));
  }

  checked(state) {
    const found = { ...state };
    const node = this.app.model.byName.get(found.layer);
    if (found.layer && !node) {
      Object.assign(found, { layer: null, map: null, unit: null });
      notice(t("no_such_layer", { layer: state.layer }));
    } else if (node) {
      if (found.map !== undefined && found.map >= mapCount(node.shape)) Object.assign(found, { map: null, unit: null });
      if (found.unit && (found.unit.length !== node.shape.length || found.unit.some((at, d) => at >= node.shape[d]))) found.unit = null;
    }
    return found;
  }
}

const COLUMN = { rest: "partial", activation: "out" };

// What stands in one column has one scale: a partial sum that adds little looks faint beside one that adds much. A picture
// that is zero throughout has none of its own; `largest` is 0 where all of a column are.
function shareScales(panels) {
  const most = new Map();
  const column = (panel) => `${COLUMN[panel.role] ?? panel.role} ${panel.kind}`;
  for (const panel of panels) most.set(column(panel), Math.max(most.get(column(panel)) ?? 0, panel.low || panel.high ? panel.limit : 0));
  for (const panel of panels) {
    panel.largest = most.get(column(panel));
    panel.limit = panel.largest || 1;
  }
}
