// One forward and one backward pass for one picture, target and loss: every answer is read from it.

import { lossOf, scoresOf, sharesOf } from "./losses.js";
import { like } from "./tensor.js";

export class Snapshot {
  constructor(network, x, question, plan, version) {
    Object.assign(this, { network, x, version, lossName: question.loss });
    this.layers = network.run(x);
    this.output = this.layers.get(network.output).y;
    const y = [...this.output.data];
    this.logits = y;
    this.scores = scoresOf(question.loss, y);
    this.predicted = this.scores.indexOf(Math.max(...this.scores));
    this.probabilities = sharesOf(question.loss, y, plan.ending);
    this.target = question.target ?? this.predicted;
    const { value, delta } = lossOf(question.loss, y, this.target, plan);
    this.loss = value;
    this.outputDelta = delta;
    this.backs = new Map();
  }

  // δ, ∂J/∂y and gradients of every layer under a rule.
  back(rule = "plain") {
    return this.pass(rule).layers;
  }

  pass(rule) {
    if (!this.backs.has(rule)) this.backs.set(rule, this.network.back(this.layers, this.network.output, like(this.output, Float64Array.from(this.outputDelta)), rule));
    return this.backs.get(rule);
  }

  // ∂J/∂θ by the parameters' full names.
  gradients() {
    const found = new Map();
    for (const [name, { gradients }] of this.back("plain")) {
      const { frozen } = this.network.byName.get(name).op;
      for (const [parameter, value] of Object.entries(gradients)) if (!frozen.includes(parameter)) found.set(`${name}.${parameter}`, value);
    }
    return found;
  }

  // ∂y_unit/∂x of one unit of a layer.
  gradientOf(name, place) {
    const seed = { shape: this.layers.get(name).y.shape, data: new Float64Array(this.layers.get(name).y.data.length) };
    seed.data[place] = 1;
    return this.network.back(this.layers, name, seed).input;
  }
}
