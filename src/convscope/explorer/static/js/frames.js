// What the server answers for one picture: the maps of the layers on the board, the state, exact values on demand.

import { floats } from "./core/connection.js";
import { notice } from "./core/dom.js";
import { t } from "./core/i18n.js";
import { packPixels } from "./core/store.js";
import { Atlas, paintInPieces, pictureCanvas } from "./draw/atlas.js";
import { readFrame } from "./draw/frame.js";

const SHARED_PIXELS = 3072;

// The input's derivative, or what a rule makes of it.
export function cameBack(rule) {
  return rule === "plain" ? "∂J/∂x" : `δ · ${t(`rule_${rule}`)}`;
}

export class Frames {
  constructor(app) {
    this.app = app;
    this.atlases = new Map();
    this.strips = new Map();
    this.spares = new Map();
    this.cache = new Map();
    this.pixels = null;
    this.picture = null;
    this.told = null; // the frame that the page's words are of
    this.changing = 0; // changes of the input that are under way
  }

  // What stands in the input's column: the picture, or what comes back to it.
  get inputName() {
    return this.atlases.has("input") ? cameBack(this.app.store.get("rule")) : t("input");
  }

  wantedLayers() {
    return this.app.graph.items.map((item) => item.shows).filter((name) => name !== "input");
  }

  wanted() {
    const { show, rule } = this.app.store.state;
    return { quantity: show, rule, layers: this.wantedLayers() };
  }

  async refresh() {
    await this.take(this.app.connection.ask("frame", this.wanted()));
  }

  // Ask for a change of the input (or target); the answer is a frame.
  async change(op, args = {}, payload = null, kind = op) {
    this.changing += 1;
    document.body.dataset.stale = "true";
    try {
      await this.take(this.app.connection.askLatest(kind, op, { ...args, ...this.wanted() }, payload));
    } catch (error) {
      if (error.kind === "superseded") return;
      if (error.kind !== "lost") notice(error.message); // that is told already
      throw error;
    } finally {
      this.changing -= 1;
      if (!this.changing) delete document.body.dataset.stale;
      this.app.keepUp();
    }
  }

  // `words`: false where the pictures alone are to change, until the next frame that is taken with its words.
  async take(promise, words = true) {
    const { state, pixels, atlases } = readFrame(await promise);
    // A sentence of another length is read by a network of that length.
    if (state.input_shape && `${state.input_shape}` !== `${this.app.model.input_shape}`) await this.app.adopt();
    const taking = (this.taking = (this.taking ?? 0) + 1);
    for (const [name, atlas] of atlases) {
      atlas.spare = this.spares.get(name) ?? null;
      this.spares.delete(name);
    }
    await this.paint(atlases);
    if (taking !== this.taking) return; // a newer one came meanwhile
    if (pixels) {
      this.pixels = pixels.data;
      this.picture = pictureCanvas(pixels.data, pixels.shape, this.picture);
    }
    for (const [name, strip] of this.strips) this.spares.set(`${name}/strip`, strip.canvas);
    this.strips.clear();
    this.cache.clear();
    for (const [name, before] of this.atlases) if (before.painted) this.spares.set(name, before.painted);
    this.atlases = atlases;
    const drawn = state.source.kind !== "data" || state.source.edited;
    this.app.store.hold({
      frame: state,
      field: null,
      evidence: null,
      sharedPixels: drawn && !state.source.words && this.pixels && this.pixels.length <= SHARED_PIXELS ? packPixels(this.pixels) : null,
    });
    this.app.store.set({ drawn: state.version });
    await this.app.selection.changed(false, words, () => words && this.tell(state)); // words and board at once
    if (words) this.app.pointer?.again();
  }

  tell(state) {
    this.told = state;
    this.app.store.release();
  }

  // No words will come for the pictures of late: what is written anew from here on is what stands already.
  standStill() {
    this.app.store.hold({ frame: this.told });
  }

  paint(atlases) {
    return paintInPieces([...atlases].filter(([name]) => this.app.camera.inSight(name)).map(([, atlas]) => atlas));
  }

  strip(name, columns) {
    const atlas = this.atlases.get(name);
    if (this.strips.get(name)?.arranged !== columns) {
      const cells = atlas.height * atlas.width;
      const own = cells === 1 ? new Atlas(atlas.data, atlas.count, 1, 1, atlas.kind, columns) : new Atlas(atlas.data, Math.min(atlas.count, 64), atlas.height, atlas.width, atlas.kind, columns);
      own.spare = this.spares.get(`${name}/strip`) ?? null;
      this.spares.delete(`${name}/strip`);
      this.strips.set(name, Object.assign(own.whole(), { arranged: columns })); // a board of another size has others
    }
    return this.strips.get(name);
  }

  // Exact values of one map, fetched once for a frame.
  async values(layer, map, quantity = "activation") {
    if (quantity === "input") quantity = "activation";
    const rule = this.app.store.get("rule");
    const key = `${layer}/${map}/${quantity}/${rule}`;
    if (!this.cache.has(key)) {
      this.cache.set(key, this.app.connection.ask("values", { layer, map, quantity, rule }).then((answer) => ({
        shape: answer.shape,
        values: floats(answer, 0, null, answer.dtype === "f8"),
      })));
    }
    return this.cache.get(key);
  }
}
