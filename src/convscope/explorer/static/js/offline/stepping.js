// One training step at a time: v ← μ·v + g + λ·w, w ← w − η·v, and the way back.

import { placeOf } from "./tensor.js";

const norm = (values) => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

export class Stepper {
  constructor(network) {
    this.parameters = network.parameters();
    this.settings = { rate: 0.05, momentum: 0, decay: 0 };
    this.start = new Map([...this.parameters].map(([name, { data }]) => [name, data.slice()]));
    this.velocity = new Map();
    this.steps = 0;
  }

  // FNV-1a over all weights, twelve hexadecimal digits: the same weights, the same number.
  hash() {
    let low = 0x811c9dc5;
    let high = 0x1b873593;
    for (const { data } of this.parameters.values()) {
      for (const byte of new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) {
        low = Math.imul(low ^ byte, 0x01000193);
        high = Math.imul(high ^ (byte + (low & 255)), 0x85ebca6b);
      }
    }
    return ((high >>> 0).toString(16).padStart(8, "0") + (low >>> 0).toString(16).padStart(8, "0")).slice(0, 12);
  }

  describe() {
    return { steps: this.steps, hash: this.hash(), ...this.settings };
  }

  preview(gradients, name, index) {
    const { shape, data } = this.parameters.get(name);
    const place = placeOf(shape, index);
    const { rate, momentum, decay } = this.settings;
    const w = data[place];
    const g = gradients.get(name).data[place];
    const [decayed, carried] = [decay * w, momentum * (this.velocity.get(name)?.[place] ?? 0)];
    const v = g + decayed + carried;
    return { parameter: name, index, w, g, decay_term: decayed, momentum_term: carried, v, change: -rate * v, new_w: w - rate * v, ...this.settings };
  }

  direction(name, gradient) {
    const { data } = this.parameters.get(name);
    const { momentum, decay } = this.settings;
    const before = momentum ? this.velocity.get(name) : null;
    return gradient.data.map((g, at) => g + decay * data[at] + (before ? momentum * before[at] : 0));
  }

  step(gradients) {
    const moved = [];
    for (const [name, gradient] of gradients) {
      const { data } = this.parameters.get(name);
      const direction = this.direction(name, gradient);
      if (this.settings.momentum) this.velocity.set(name, direction.slice());
      direction.forEach((v, at) => (data[at] -= this.settings.rate * v));
      moved.push({ parameter: name, gradient: norm(gradient.data), weight: norm(data), change: this.settings.rate * norm(direction) });
    }
    this.steps += 1;
    return moved;
  }

  // What ``look`` finds with the weights as they would be after a step, which is not made.
  foresee(gradients, look) {
    const before = new Map();
    for (const [name, gradient] of gradients) {
      const { data } = this.parameters.get(name);
      before.set(name, data.slice());
      this.direction(name, gradient).forEach((v, at) => (data[at] -= this.settings.rate * v));
    }
    const found = look();
    for (const [name, data] of before) this.parameters.get(name).data.set(data);
    return found;
  }

  rewind() {
    for (const [name, data] of this.start) this.parameters.get(name).data.set(data);
    this.velocity.clear();
    this.steps = 0;
  }
}
