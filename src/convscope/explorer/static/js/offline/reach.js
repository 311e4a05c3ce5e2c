// Receptive fields: the positions of the picture, and of every map in between, that a unit depends on; and the other way,
// what a pixel reaches. Along each dimension a field is a set of positions, carried through windows and branches exactly.

import { pooled } from "./windows.js";

export class Reach {
  constructor(network, inputShape) {
    this.network = network;
    this.shapes = new Map([["input", inputShape], ...network.nodes.map((node) => [node.name, node.shape])]);
    this.fields = new Map([["input", [0, 1].map(() => ({ first: 0, size: 1, jump: 1 }))]]);
    for (const node of network.nodes) this.fields.set(node.name, this.fieldOf(node));
  }

  spatial(name) {
    return this.shapes.get(name).length === 3;
  }

  // Which positions of the source along dimension d output position ``at`` reads, those outside left out.
  reads(node, source, d, at) {
    const size = this.shapes.get(source)[d + 1];
    if (node.facts.window) {
      const { kernel, stride, padding, dilation } = node.window;
      const found = Array.from({ length: kernel[d] }, (_, k) => at * stride[d] - padding[d] + k * dilation[d]);
      return found.filter((each) => each >= 0 && each < size);
    }
    if (node.family === "adaptive_mean_pool") {
      const output = d === 0 ? [at, 0] : [0, at];
      const sizes = d === 0 ? [size, 1] : [1, size];
      const shape = d === 0 ? [node.shape[0], node.shape[1], 1] : [node.shape[0], 1, node.shape[2]];
      return pooled({ ...node, shape }, output, sizes).positions.map((each) => each.at[d]);
    }
    return [at];
  }

  fieldOf(node) {
    const parts = node.sources.map((source) => [source, this.fields.get(source)]);
    if (parts.some(([source, field]) => !field || !this.spatial(source)) || node.shape.length !== 3) return null;
    return [0, 1].map((d) => {
      const each = parts.map(([, field]) => {
        const before = field[d];
        if (!before) return null;
        if (node.facts.window) {
          const { kernel, stride, padding, dilation } = node.window;
          return { first: before.first - padding[d] * before.jump, size: before.size + (kernel[d] - 1) * dilation[d] * before.jump, jump: before.jump * stride[d] };
        }
        return node.family === "adaptive_mean_pool" ? this.adaptive(node, before, d) : before;
      });
      if (each.some((one) => !one) || each.some((one) => one.jump !== each[0].jump)) return null;
      const first = Math.min(...each.map((one) => one.first));
      return { first, size: Math.max(...each.map((one) => one.first + one.size)) - first, jump: each[0].jump };
    });
  }

  adaptive(node, before, d) {
    const size = this.shapes.get(node.sources[0])[d + 1];
    if (size % node.shape[d + 1]) return null;
    const step = size / node.shape[d + 1];
    return { first: before.first, size: before.size + (step - 1) * before.jump, jump: before.jump * step };
  }

  ofUnit(name, unit) {
    const start = this.spatial(name) ? unit.slice(1).map((at, d) => this.only(name, d, [at])) : [null, null];
    const masks = new Map([[name, start]]);
    for (let k = this.network.nodes.length - 1; k >= 0; k--) {
      const node = this.network.nodes[k];
      if (!masks.has(node.name)) continue;
      for (const source of node.sources) this.pull(node, source, masks);
    }
    const boxes = this.boxes(masks);
    const field = this.fields.get(name);
    const regular = field?.every(Boolean);
    const size = regular ? field.map((each) => each.size) : boxes.input.map(([first, last]) => last - first);
    const padded = regular ? field.map(({ first, size: reach, jump }, d) => [first + jump * unit[d + 1], first + jump * unit[d + 1] + reach]) : null;
    return { direction: "backward", layer: name, boxes, size, jump: regular ? field.map((each) => each.jump) : null, padded };
  }

  ofPixel(pixel) {
    const masks = new Map([["input", pixel.map((at, d) => this.only("input", d, [at]))]]);
    for (const node of this.network.nodes) {
      const parts = node.sources.filter((source) => masks.has(source)).map((source) => this.push(node, source, masks.get(source))).filter(Boolean);
      if (!parts.length) continue;
      masks.set(node.name, [0, 1].map((d) => (parts.some((part) => !part[d]) ? null : parts[0][d].map((_, at) => parts.some((part) => part[d][at])))));
    }
    return { direction: "forward", layer: "input", boxes: this.boxes(masks) };
  }

  only(name, d, positions) {
    const mask = new Array(this.shapes.get(name)[d + 1]).fill(false);
    for (const at of positions) mask[at] = true;
    return mask;
  }

  pull(node, source, masks) {
    if (!masks.has(source)) masks.set(source, this.spatial(source) ? [0, 1].map((d) => this.only(source, d, [])) : [null, null]);
    if (!this.spatial(source)) return;
    const mine = masks.get(node.name);
    masks.get(source).forEach((into, d) => {
      if (!this.spatial(node.name) || !mine[d]) into.fill(true);
      else mine[d].forEach((hit, at) => hit && this.reads(node, source, d, at).forEach((each) => (into[each] = true)));
    });
  }

  push(node, source, marked) {
    if (!this.spatial(node.name) || !this.spatial(source)) return [null, null];
    const pushed = marked.map((mask, d) => Array.from({ length: node.shape[d + 1] }, (_, at) => this.reads(node, source, d, at).some((each) => mask[each])));
    return pushed.every((mask) => mask.some(Boolean)) ? pushed : null;
  }

  boxes(masks) {
    const found = {};
    for (const [name, sides] of masks) {
      if (sides.some((mask) => !mask)) continue;
      found[name] = sides.map((mask) => {
        const first = mask.indexOf(true);
        return first < 0 ? [0, 0] : [first, mask.lastIndexOf(true) + 1];
      });
    }
    return found;
  }
}
