// The model of the page: its layers with their weights, one pass forward, one pass back.

import { KINDS, deltaOf } from "./kinds.js";
import { addInto, fromBase64, like, sizeOf } from "./tensor.js";

export class Network {
  constructor(plan) {
    const packed = fromBase64(plan.weights);
    const numbers = new Float32Array(packed.buffer, 0, packed.length / 4);
    this.nodes = plan.hello.nodes.map((node) => ({ ...node, facts: plan.hello.families[node.family], op: plan.ops[node.name], tensors: {} }));
    for (const node of this.nodes) {
      for (const [name, { shape, offset }] of Object.entries(node.op.tensors)) {
        node.tensors[name] = { shape, data: Float64Array.from(numbers.subarray(offset, offset + sizeOf(shape))) };
      }
    }
    this.byName = new Map(this.nodes.map((node) => [node.name, node]));
    this.output = plan.output;
    this.readers = new Map([["input", []], ...this.nodes.map((node) => [node.name, []])]);
    for (const node of this.nodes) node.sources.forEach((source, place) => this.readers.get(source).push([node.name, place]));
  }

  // The activation that alone reads a layer.
  activationAfter(name) {
    const following = this.readers.get(name);
    return following.length === 1 && this.byName.get(following[0][0]).family === "activation" ? following[0][0] : null;
  }

  // The parameters that a step changes, by their full names; a module used twice has one.
  parameters() {
    const found = new Map();
    for (const node of this.nodes) {
      for (const name of Object.keys(node.parameters)) found.set(`${node.name}.${name}`, node.tensors[name]);
    }
    return found;
  }

  run(x) {
    const layers = new Map();
    const values = new Map([["input", x]]);
    for (const node of this.nodes) {
      const inputs = node.sources.map((source) => values.get(source));
      const { y, u } = KINDS[node.family].run(node, inputs);
      layers.set(node.name, { node, inputs, y, u: u ?? y, deltas: {}, upstream: {}, gradients: {} });
      values.set(node.name, y);
    }
    return layers;
  }

  // From ∂J/∂y of ``start`` back to the input; δ, ∂J/∂y and the gradients are written into copies of the layers.
  back(layers, start, seed, rule = "plain") {
    const upstream = new Map([[start, seed]]);
    const found = new Map();
    for (let at = this.nodes.length - 1; at >= 0; at--) {
      const node = this.nodes[at];
      const g = upstream.get(node.name);
      if (!g) continue;
      const layer = layers.get(node.name);
      const delta = deltaOf(layer, g, rule);
      const { inputs, parameters } = KINDS[node.family].back(layer, delta);
      found.set(node.name, { delta, upstream: g, gradients: parameters });
      node.sources.forEach((source, place) => {
        const part = inputs[place];
        const before = upstream.get(source);
        upstream.set(source, before ? like(before, addInto(Float64Array.from(before.data), part.data)) : part);
      });
    }
    return { layers: found, input: upstream.get("input") ?? null };
  }
}
