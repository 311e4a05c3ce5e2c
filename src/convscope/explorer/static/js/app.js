// The page's centre: it holds the model, the frames, the camera and the selection, builds the scene and tells the views.

import { $, notice } from "./core/dom.js";
import { language, t } from "./core/i18n.js";
import { Model } from "./core/model.js";
import { Store } from "./core/store.js";
import { readPalette } from "./draw/palette.js";
import { Stage } from "./draw/stage.js";
import { elastic } from "./scenes/elastic.js";
import { overview } from "./scenes/overview.js";
import { Address } from "./address.js";
import { Camera } from "./camera.js";
import { Frames } from "./frames.js";
import { Keyboard } from "./keyboard.js";
import { Pointer } from "./pointer.js";
import { Selection } from "./selection.js";
import { mountHeads } from "./views/heads.js";
import { mountDetail } from "./views/detail.js";
import { mountInput } from "./views/input.js";
import { mountLegend } from "./views/legend.js";
import { attachLive, learns } from "./views/live.js";
import { mountTools } from "./views/tools.js";
import { mountTravel } from "./views/travel.js";

export class App {
  constructor(connection, hello) {
    this.connection = connection;
    this.t = t;
    this.store = new Store({
      layer: null, map: null, unit: null, tab: "forward", show: "activation", rule: "plain", weight: null, pixel: null,
      lang: language(), defaultLang: language(), unfolded: [], frame: null, drawn: null, field: null, weighed: null, sharedPixels: null, speed: 1,
      training: null, evidence: null,
      lab: null, beside: null, boxes: null, // what these tabs are set to, as the address says it
      hover: null, // what the pointer, or the keys' cursor, is on: { layer, map, cell, since }
      lights: [], litTerm: null, row: null, // on a map taken apart: places, a term, the input whose window is open
    });
    this.camera = new Camera(this);
    this.frames = new Frames(this);
    this.selection = new Selection(this);
    this.address = new Address(this);
    this.hits = [];
    this.apart = null; // the layer taken apart that is drawn
    this.newest = 0; // the newest version that the server has told of
    this.following = false;
    this.foreign = false; // whether it was another window that changed it
    this.awaited = []; // questions about a frame of this page's own that is on its way
    this.setModel(hello);
    this.stage = new Stage($("#canvas"), $("#board"));
    this.stage.onresize = () => {
      this.camera.relayout();
      this.render(false);
    };
  }

  setModel(hello) {
    this.model = new Model(hello);
    this.graph = hello.layout;
  }

  async begin(address) {
    readPalette();
    mountTools(this);
    mountHeads(this);
    mountInput(this);
    mountDetail(this);
    mountLegend(this);
    mountTravel(this);
    this.pointer = new Pointer(this);
    this.keyboard = new Keyboard(this);
    this.stage.resize();
    const { wanted, ...state } = address;
    const known = Object.fromEntries(Object.entries(state).filter(([, value]) => value !== null));
    this.store.set(this.selection.checked(known));
    if (this.store.state.unfolded.length) await this.unfold(this.store.state.unfolded);
    this.camera.relayout();
    await this.address.restoreInput(wanted);
    await this.address.checkModel(wanted);
    this.listen();
    await this.selection.changed(false);
    await attachLive(this);
    window.addEventListener("popstate", () => this.address.goBack());
  }

  listen() {
    const { store } = this;
    const { connection } = this;
    connection.shown = () => store.get("frame")?.version ?? null;
    connection.moved = ({ version, mine }) => this.follow(version, mine);
    connection.on("version", (version) => this.follow(version));
    connection.on("lost", () => this.awaited.splice(0).forEach(({ done }) => done(false)));
    window.addEventListener("focus", () => this.model.can("newest") && connection.ask("newest").catch(() => {})); // what other windows did meanwhile
    store.on(["drawn"], (state) => {
      const there = this.awaited.filter(({ version }) => state.drawn >= version);
      this.awaited = this.awaited.filter((each) => !there.includes(each));
      there.forEach(({ done }) => done(true));
    });
    store.on(["layer", "map", "unit"], (state, keys) => {
      this.pointer.forget();
      store.set({ row: null });
      this.selection.changed(true);
      this.address.write(keys.has("layer") || keys.has("map") || keys.has("unit"));
    });
    store.on(["tab", "weight", "pixel", "lang", "frame", "rule", "lab", "beside", "boxes"], () => this.address.write(false));
    store.on(["show", "rule"], () => {
      this.address.write(false);
      this.frames.refresh();
    });
    store.on(["row", "lang"], () => this.render(false));
    store.on(["weighed"], () => this.selection.seek());
    store.on(["hover", "lights", "litTerm", "field"], () => this.stage.request());
    store.on(["tab"], (state) => {
      const direction = state.tab === "backward" ? "backward" : "forward";
      if (this.selection.elastic && this.selection.elastic.direction !== direction && state.frame.loss !== null) {
        store.set({ row: null });
        this.selection.changed(true);
      }
    });
  }

  // The server has another picture, or other weights, than this page shows, which comes to show the same. Where it was
  // another window that changed them this is said, and what was asked about the ones before is dropped; what this page
  // has changed itself is about to be shown, and the question waits for it. → whether to ask again
  async follow(version, mine = false) {
    this.newest = Math.max(this.newest, version);
    this.foreign ||= !mine;
    this.keepUp();
    if (!mine || this.store.get("frame").version >= version) return mine;
    return new Promise((done) => this.awaited.push({ version, done }));
  }

  // A change of this page's own that is under way brings a frame as new, unless it is refused.
  get behind() {
    return this.newest > this.store.get("frame")?.version && !this.frames.changing;
  }

  keepUp() {
    if (this.newest <= this.store.get("frame")?.version) this.foreign = false;
    if (this.following || !this.behind) return;
    this.following = true;
    if (this.foreign && !learns()) notice(t("other_window"));
    this.foreign = false;
    this.catchUp().catch((error) => error.kind === "lost" || notice(error.message)).finally(() => (this.following = false));
  }

  async catchUp() {
    while (this.behind) await this.frames.refresh();
    await attachLive(this);
  }

  // After the server came back: the same page on what it has now.
  async reattach(hello) {
    this.setModel(hello);
    this.newest = 0; // the server begins to count anew
    this.camera.relayout();
    await this.frames.refresh();
    await this.selection.changed(false);
    await attachLive(this);
  }

  // The model as the server has it by now, where an input of another shape has changed its layers' shapes.
  async adopt() {
    this.setModel(await this.connection.ask("hello"));
    const { layer, map, unit, unfolded } = this.store.state;
    if (unfolded.length) await this.unfold(unfolded);
    this.camera.relayout();
    this.store.set(this.selection.checked({ layer, map, unit }));
  }

  render(animate = false) {
    if (!this.camera.layout || !this.store.state.frame) return;
    this.hits = [];
    this.gridHits = [];
    this.apart = this.selection.current;
    document.body.classList.toggle("opened", this.apart !== null);
    this.stage.show(this.apart ? elastic(this) : overview(this), animate);
  }

  hoverStrength() {
    if (this.stage.reduced.matches) return 1;
    return Math.min(1, (performance.now() - this.store.get("hover").since) / 200);
  }

  async unfold(blocks) {
    const { layout } = await this.connection.ask("layout", { unfolded: blocks });
    this.graph = layout;
    this.store.set({ unfolded: blocks });
    this.camera.relayout();
  }

  async toggleBlock(name) {
    const open = this.store.get("unfolded");
    await this.unfold(open.includes(name) ? open.filter((each) => each !== name) : [...open, name]);
    await this.frames.refresh();
    this.address.write(false);
  }
}
