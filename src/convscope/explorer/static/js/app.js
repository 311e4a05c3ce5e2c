// The page's centre: the model, the frame on show, the selection; it builds the scene and tells the views.

import { floats } from "./core/connection.js";
import { $, notice, say } from "./core/dom.js";
import { short } from "./core/format.js";
import { has, language, t } from "./core/i18n.js";
import { fromAddress, packPixels, Store, toAddress, unpackPixels } from "./core/store.js";
import { Atlas, floatsAtlas, paintInPieces, pictureCanvas } from "./draw/atlas.js";
import { arrange, isVector, mapCount, mapSize } from "./draw/columns.js";
import { readFrame } from "./draw/frame.js";
import { readPalette } from "./draw/palette.js";
import { Stage } from "./draw/stage.js";
import { elastic } from "./scenes/elastic.js";
import { overview } from "./scenes/overview.js";
import { Pointer } from "./pointer.js";
import { Keyboard } from "./keyboard.js";
import { mountHeads } from "./views/heads.js";
import { mountDetail } from "./views/detail.js";
import { mountInput } from "./views/input.js";
import { mountLegend } from "./views/legend.js";
import { mountTools } from "./views/tools.js";

const SHARED_PIXELS = 3072;

export class App {
  constructor(connection, hello) {
    this.connection = connection;
    this.t = t;
    this.store = new Store({
      layer: null, map: null, unit: null, tab: "forward", show: "activation", rule: "plain", weight: null, pixel: null,
      lang: language(), defaultLang: language(), unfolded: [], frame: null, field: null, sharedPixels: null, speed: 1,
      training: null, evidence: null,
    });
    this.camera = { x: 0 };
    this.atlases = new Map();
    this.strips = new Map();
    this.cache = new Map();
    this.hits = [];
    this.row = null;
    this.setModel(hello);
    this.stage = new Stage($("#canvas"), $("#board"));
    this.stage.onresize = () => {
      this.relayout();
      this.render(false);
    };
  }

  setModel(hello) {
    this.model = hello;
    this.model.byName = new Map(hello.nodes.map((node) => [node.name, node]));
    this.graph = hello.layout;
  }

  async begin(address) {
    readPalette();
    mountTools(this);
    mountHeads(this);
    mountInput(this);
    mountDetail(this);
    mountLegend(this);
    this.pointer = new Pointer(this);
    this.keyboard = new Keyboard(this);
    this.stage.resize();
    const { wanted, ...state } = address;
    const known = Object.fromEntries(Object.entries(state).filter(([, value]) => value !== null));
    this.store.set(this.checked(known));
    if (this.store.state.unfolded.length) await this.unfold(this.store.state.unfolded);
    this.relayout();
    await this.restoreInput(wanted);
    this.listen();
    await this.selectionChanged(false);
    window.addEventListener("popstate", () => this.goBack());
  }

  listen() {
    const { store } = this;
    store.on(["layer", "map", "unit"], (state, keys) => {
      this.row = null;
      this.selectionChanged(true);
      this.writeAddress(keys.has("layer") || keys.has("map") || keys.has("unit"));
    });
    store.on(["tab", "weight", "pixel", "lang", "frame", "rule"], () => this.writeAddress(false));
    store.on(["show", "rule"], () => {
      this.writeAddress(false);
      this.refresh();
    });
    store.on(["field"], () => this.render(false));
    store.on(["tab"], (state) => {
      const direction = state.tab === "backward" ? "backward" : "forward";
      if (this.elastic && this.elastic.direction !== direction && state.frame.loss !== null) {
        this.row = null;
        this.selectionChanged(true);
      }
    });
  }

  // After the server came back: the same page on what it has now.
  async reattach(hello) {
    this.setModel(hello);
    this.relayout();
    await this.refresh();
    await this.selectionChanged(false);
  }

  checked(state) {
    const found = { ...state };
    const node = this.model.byName.get(found.layer);
    if (found.layer && !node) {
      Object.assign(found, { layer: null, map: null, unit: null });
      notice(t("no_such_layer", { layer: state.layer }));
    } else if (node) {
      if (found.map !== undefined && found.map >= mapCount(node.shape)) Object.assign(found, { map: null, unit: null });
      if (found.unit && (found.unit.length !== node.shape.length || found.unit.some((at, d) => at >= node.shape[d]))) found.unit = null;
    }
    return found;
  }

  async restoreInput(wanted) {
    const show = { quantity: this.store.get("show"), rule: this.store.get("rule") };
    if (wanted.loss || wanted.target !== null) {
      const known = this.model.losses.includes(wanted.loss) ? { loss: wanted.loss } : {};
      await this.connection.ask("ask", { ...known, target: wanted.target, ...show }).catch((error) => notice(error.message));
    }
    if (wanted.item && this.model.data) {
      const [split, index] = wanted.item.split(":");
      await this.takeFrame(this.connection.ask("show_data", { split, index: Number(index), ...show, layers: this.wantedLayers() }));
      if (wanted.target !== null) await this.takeFrame(this.connection.ask("ask", { target: wanted.target, ...show, layers: this.wantedLayers() }));
    } else if (wanted.px) {
      await this.takeFrame(this.connection.ask("show_pixels", { kind: "shared", ...show, layers: this.wantedLayers() }, unpackPixels(wanted.px)));
    } else await this.refresh();
  }

  // ---- frames ---------------------------------------------------------------------------------------------------

  wantedLayers() {
    return this.graph.items.map((item) => item.shows).filter((name) => name !== "input");
  }

  async refresh() {
    const { show, rule } = this.store.state;
    await this.takeFrame(this.connection.ask("frame", { quantity: show, rule, layers: this.wantedLayers() }));
  }

  // Ask for a change of the input (or target); the answer is a frame.
  async change(op, args = {}, payload = null, kind = op) {
    const { show, rule } = this.store.state;
    document.body.dataset.stale = "true";
    try {
      await this.takeFrame(this.connection.askLatest(kind, op, { ...args, quantity: show, rule, layers: this.wantedLayers() }, payload));
    } catch (error) {
      if (error.kind !== "superseded") {
        notice(error.message);
        throw error;
      }
    } finally {
      delete document.body.dataset.stale;
    }
  }

  async takeFrame(promise) {
    const { state, pixels, atlases } = readFrame(await promise);
    const taking = (this.taking = (this.taking ?? 0) + 1);
    await this.paint(atlases);
    if (taking !== this.taking) return; // a newer one came meanwhile
    if (pixels) {
      this.pixels = pixels.data;
      this.picture = pictureCanvas(pixels.data, pixels.shape);
    }
    this.strips.clear();
    this.cache.clear();
    this.atlases = atlases;
    const drawn = state.source.kind !== "data" || state.source.edited;
    this.store.set({
      frame: state,
      field: null,
      evidence: null,
      sharedPixels: drawn && this.pixels && this.pixels.length <= SHARED_PIXELS ? packPixels(this.pixels) : null,
    });
    await this.selectionChanged(false);
    this.pointer?.again();
  }

  paint(atlases) {
    return paintInPieces([...atlases].filter(([name]) => this.inSight(name)).map(([, atlas]) => atlas));
  }

  // Whether a layer's maps stand on the board now, not to the left or right of it.
  inSight(name) {
    const box = this.boxOf(name);
    return box?.kind === "tiles" && box.x - this.camera.x < this.stage.width && box.x + box.width - this.camera.x > 0;
  }

  strip(name, columns) {
    const atlas = this.atlases.get(name);
    if (!this.strips.has(name)) {
      const cells = atlas.height * atlas.width;
      const own = cells === 1 ? new Atlas(atlas.data, atlas.count, 1, 1, atlas.kind, columns) : new Atlas(atlas.data, Math.min(atlas.count, 64), atlas.height, atlas.width, atlas.kind, columns);
      this.strips.set(name, own.whole());
    }
    return this.strips.get(name);
  }

  // ---- geometry -------------------------------------------------------------------------------------------------

  relayout() {
    if (!this.stage.width) return;
    this.layout = arrange(this.model, this.graph, this.stage.width, this.stage.height);
    this.shownBy = new Map();
    for (const box of this.layout.boxes.values()) this.shownBy.set(box.item.shows, box);
    this.moveCamera(0);
    this.onlayout?.();
  }

  moveCamera(by) {
    const most = Math.max(0, this.layout.width - this.stage.width);
    this.camera.x = Math.min(most, Math.max(0, this.camera.x + by));
    this.onlayout?.();
  }

  reveal(name) {
    const box = this.boxOf(name);
    if (!box) return;
    if (box.x - this.camera.x < 20) this.moveCamera(box.x - this.camera.x - 40);
    else if (box.x + box.width - this.camera.x > this.stage.width - 20) this.moveCamera(box.x + box.width - this.camera.x - this.stage.width + 40);
  }

  boxOf(name) {
    return this.shownBy?.get(name) ?? null;
  }

  sizeOf(name) {
    return name === "input" ? this.model.picture_shape.slice(1) : mapSize(this.model.byName.get(name).shape);
  }

  countOf(name) {
    return name === "input" ? 1 : mapCount(this.model.byName.get(name).shape);
  }

  // A unit's index in the layer's output ↔ its cell in a map.
  unitOf(name, map, cell) {
    const { shape } = this.model.byName.get(name);
    if (shape.length <= 1) return shape.length ? [map] : [];
    if (shape.length === 2) return [map, cell[1]];
    if (shape.length === 3) return [map, cell[0], cell[1]];
    return [map, Math.floor(cell[0] / shape[2]), cell[0] % shape[2], cell[1]];
  }

  cellOf(name, unit) {
    const { shape } = this.model.byName.get(name);
    if (shape.length <= 1) return [0, 0];
    if (shape.length === 2) return [0, unit[1]];
    if (shape.length === 3) return [unit[1], unit[2]];
    return [unit[1] * shape[2] + unit[2], unit[3]];
  }

  // Where unit k of a vector stands in the picture that it is laid out as.
  unfolded(name, k) {
    const unfold = this.model.byName.get(name).unfold ?? { columns: 1, tile: [1, 1] };
    const [h, w] = unfold.tile;
    const tile = Math.floor(k / (h * w));
    const inside = k % (h * w);
    return [Math.floor(tile / unfold.columns) * h + Math.floor(inside / w), (tile % unfold.columns) * w + (inside % w)];
  }

  folded(name, row, column) {
    const unfold = this.model.byName.get(name).unfold ?? { columns: 1, tile: [1, 1] };
    const [h, w] = unfold.tile;
    const tile = Math.floor(row / h) * unfold.columns + Math.floor(column / w);
    return tile * h * w + (row % h) * w + (column % w);
  }

  className(number) {
    return this.model.classes[number] ?? String(number);
  }

  mapName(layer, map) {
    if (layer === "input") return "";
    const node = this.model.byName.get(layer);
    if (layer === this.model.output && isVector(node.shape)) return this.className(map);
    return isVector(node.shape) ? t("unit_n", { n: map }) : t("map_n", { n: map });
  }

  familyName(node) {
    return has(`family_${node.family}`) ? t(`family_${node.family}`) : node.kind;
  }

  shapeText(shape) {
    return shape.join("×") || "1";
  }

  // ---- selection ------------------------------------------------------------------------------------------------

  select(layer, map = null, unit = null) {
    const node = layer && this.model.byName.get(layer);
    if (node && map !== null && !unit && isVector(node.shape)) unit = node.shape.length === 3 ? [map, 0, 0] : this.unitOf(layer, map, [0, 0]);
    this.store.set({ layer, map, unit });
  }

  // One level back: unit → map → layer → overview.
  up() {
    const { layer, map, unit } = this.store.state;
    const node = layer && this.model.byName.get(layer);
    if (unit && !isVector(node.shape)) this.select(layer, map);
    else if (layer) this.store.set({ layer: null, map: null, unit: null });
    else if (this.store.get("field")) this.store.set({ field: null });
  }

  async selectionChanged(animate) {
    const { layer, map } = this.store.state;
    this.lights = [];
    if (layer && map !== null) {
      const key = `${layer}/${map}`;
      const direction = this.store.get("tab") === "backward" ? "backward" : "forward";
      const answer = await this.connection.askLatest("elastic", "elastic", { layer, map, direction, rule: this.store.get("rule") }).catch((error) => {
        if (error.kind === "superseded" || error.kind === "lost") return null;
        throw error;
      });
      if (!answer || key !== `${this.store.get("layer")}/${this.store.get("map")}`) return;
      this.elastic = { ...answer, key };
      for (const panel of answer.panels) {
        panel.values = floats(answer, panel.offset, panel.height * panel.width);
        const kind = panel.kind === "input" ? "activation" : panel.kind;
        panel.atlas = floatsAtlas(panel.values, panel.height, panel.width, kind, panel.limit);
      }
    } else this.elastic = null;
    if (animate && layer) this.speakSelection();
    this.render(animate);
    this.onselection?.();
  }

  render(animate = false) {
    if (!this.layout || !this.store.state.frame) return;
    this.hits = [];
    this.gridHits = [];
    this.stage.show(this.elastic ? elastic(this) : overview(this), animate);
  }

  speakSelection() {
    const { layer, map, unit } = this.store.state;
    const node = this.model.byName.get(layer);
    if (map === null) say(t("say_layer", { layer, kind: this.familyName(node), shape: this.shapeText(node.shape) }));
    else if (!unit) say(t("say_map", { layer, map }));
  }

  hoverStrength() {
    if (this.stage.reduced.matches) return 1;
    return Math.min(1, (performance.now() - (this.hoverSince ?? 0)) / 200);
  }

  // Exact values of one map, fetched once for a frame.
  async values(layer, map, quantity = "activation") {
    if (quantity === "input") quantity = "activation";
    const key = `${layer}/${map}/${quantity}`;
    if (!this.cache.has(key)) {
      this.cache.set(key, this.connection.ask("values", { layer, map, quantity }).then((answer) => ({
        shape: answer.shape,
        values: floats(answer, 0, null, answer.dtype === "f8"),
      })));
    }
    return this.cache.get(key);
  }

  async unfold(blocks) {
    const { layout } = await this.connection.ask("layout", { unfolded: blocks });
    this.graph = layout;
    this.store.set({ unfolded: blocks });
    this.relayout();
  }

  async toggleBlock(name) {
    const open = this.store.get("unfolded");
    await this.unfold(open.includes(name) ? open.filter((each) => each !== name) : [...open, name]);
    await this.refresh();
    this.writeAddress(false);
  }

  // ---- address --------------------------------------------------------------------------------------------------

  writeAddress(push) {
    if (this.goingBack) return;
    const address = toAddress(this.store.state);
    if (address === location.hash) return;
    if (push) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
  }

  goBack() {
    const { wanted, lang, unfolded, ...state } = fromAddress(location.hash);
    void wanted;
    void lang;
    void unfolded;
    this.goingBack = true;
    this.store.set(this.checked({ tab: "forward", show: "activation", rule: "plain", ...state }));
    queueMicrotask(() => queueMicrotask(() => (this.goingBack = false)));
  }

  speakValue(text, value) {
    say(`${text}: ${short(value)}`);
  }
}
