// The page's own answers, where there is no server: the same questions as the socket takes, worked out here in float64.

import { RequestError } from "../core/connection.js";
import { fromBase64, placeOf } from "./tensor.js";
import { lossOf, sharesOf } from "./losses.js";
import { Network } from "./network.js";
import { Reach } from "./reach.js";
import { Snapshot } from "./snapshot.js";
import { Stepper } from "./stepping.js";
import { QUESTIONS } from "./questions.js";

// The model that the page was saved with; null where the page comes from a server.
export function embedded() {
  const element = document.getElementById("convscope-model");
  return element ? JSON.parse(element.textContent) : null;
}

export class Offline {
  constructor(plan) {
    this.plan = plan;
    this.network = new Network(plan);
    this.reach = new Reach(this.network, plan.hello.picture_shape);
    this.stepper = new Stepper(this.network);
    this.items = plan.items.map((item) => ({ ...item, pixels: fromBase64(item.pixels) }));
    this.lossName = plan.loss;
    this.target = plan.target;
    this.targetChosen = plan.target_chosen;
    this.version = 0;
    this.listeners = { open: [], lost: [], version: [] };
    this.show(fromBase64(plan.pixels), plan.source, plan.label);
  }

  // The same numbers as torch had when the page was saved, or the page shows none.
  check() {
    const { logits, tolerance } = this.plan.check;
    const off = Math.max(...logits.map((value, at) => Math.abs(value - this.snapshot.logits[at])));
    if (!(off <= tolerance)) throw new RequestError("internal", `this page computes other outputs than torch: off by ${off}, at most ${tolerance} is expected`);
  }

  on(event, listener) {
    this.listeners[event].push(listener);
  }

  connect() {
    queueMicrotask(() => this.listeners.open.forEach((listener) => listener()));
  }

  async ask(op, args = {}, payload = null) {
    const run = QUESTIONS[op];
    if (!run) throw new RequestError("op", `a saved page does not answer “${op}”`);
    const answer = run(this, args, payload);
    return { bytes: null, ...answer };
  }

  itemOf(number) {
    return this.items.findIndex((item) => item.index === number);
  }

  askLatest(kind, op, args = {}, payload = null) {
    return this.ask(op, args, payload);
  }

  show(pixels, source, label = null) {
    Object.assign(this, { pixels, source, label });
    if (!this.targetChosen || label !== null) this.targetChosen = false;
    this.again();
  }

  again() {
    this.version += 1;
    const target = this.targetChosen ? this.target : this.label;
    this.snapshot = new Snapshot(this.network, this.normalised(this.pixels), { loss: this.lossName, target }, this.plan, this.version);
    this.target = this.snapshot.target;
  }

  normalised(pixels) {
    const { mean, std } = this.plan;
    const shape = this.plan.hello.input_shape;
    const area = pixels.length / mean.length;
    return { shape, data: Float64Array.from(pixels, (value, at) => (value - mean[Math.floor(at / area)] * 255) / (std[Math.floor(at / area)] * 255)) };
  }

  // J and the shares of the classes with the weights as they are now.
  judged() {
    const y = [...this.network.run(this.snapshot.x).get(this.network.output).y.data];
    const { value } = lossOf(this.lossName, y, this.snapshot.target, this.plan);
    return { loss: value, probabilities: sharesOf(this.lossName, y, this.plan.ending) };
  }

  layer(name) {
    const layer = this.snapshot.layers.get(name);
    if (!layer) throw new RequestError("layer", `no layer “${name}”`);
    return layer;
  }

  place(name, index) {
    const { shape } = this.layer(name).y;
    if (index.length !== shape.length || index.some((at, d) => !Number.isInteger(at) || at < 0 || at >= shape[d])) {
      throw new RequestError("index", `no unit [${index.join(", ")}] in ${name}, ${shape.join("×")}`);
    }
    return placeOf(shape, index);
  }
}
