// Each kind of layer forward beside backward, in float64: run(node, inputs) → {y, u}; back(layer, ∂J/∂y) → what goes to
// the inputs and the parameters. A layer is {node, inputs, u, y}.

import { functionOf } from "./functions.js";
import { addInto, like, sizeOf, zeros } from "./tensor.js";
import { pooled, winner } from "./windows.js";

// Which input map feeds which output map, and where that kernel begins in the weights.
export function linksOf(node) {
  if (node.links) return node.links;
  const size = node.window.kernel[0] * node.window.kernel[1];
  const { groups, table } = node.op;
  const links = [];
  if (table) table.forEach(([out, source], row) => links.push({ out, source, at: row * size, leading: [row] }));
  else {
    const perGroup = node.tensors.weight.shape[1];
    const outputs = node.shape[0] / groups;
    for (let out = 0; out < node.shape[0]; out++) {
      for (let i = 0; i < perGroup; i++) links.push({ out, source: Math.floor(out / outputs) * perGroup + i, at: (out * perGroup + i) * size, leading: [out, i] });
    }
  }
  node.links = links;
  return links;
}

// Calls visit(place in the weights, place in x, place in y, reach, steps) for whole rows of one kernel entry.
function sweep(node, x, visit) {
  const { kernel: [kh, kw], stride: [sh, sw], padding: [ph, pw], dilation: [dh, dw] } = node.window;
  const [, rows, columns] = x.shape;
  const [, outRows, outColumns] = node.shape;
  for (const { out, source, at } of linksOf(node)) {
    for (let k = 0; k < kh * kw; k++) {
      const y = Math.floor(k / kw);
      const first = (k % kw) * dw - pw;
      const w = at + (node.op.flip ? kh * kw - 1 - k : k);
      const from = Math.max(0, Math.ceil(-first / sw));
      const until = Math.min(outColumns, Math.floor((columns - 1 - first) / sw) + 1);
      for (let row = 0; row < outRows; row++) {
        const here = row * sh - ph + y * dh;
        if (here < 0 || here >= rows || until <= from) continue;
        visit(w, (source * rows + here) * columns + from * sw + first, (out * outRows + row) * outColumns + from, until - from, sw);
      }
    }
  }
}

const conv = {
  run(node, [x]) {
    const y = zeros(node.shape);
    const { weight, bias } = node.tensors;
    const area = node.shape[1] * node.shape[2];
    if (bias) for (let map = 0; map < node.shape[0]; map++) y.data.fill(bias.data[map], map * area, (map + 1) * area);
    sweep(node, x, (w, from, to, reach, step) => {
      const factor = weight.data[w];
      for (let i = 0; i < reach; i++) y.data[to + i] += factor * x.data[from + i * step];
    });
    return { y };
  },
  back({ node, inputs: [x] }, g) {
    const { weight, bias } = node.tensors;
    const dx = zeros(x.shape);
    const dw = zeros(weight.shape);
    sweep(node, x, (w, from, to, reach, step) => {
      const factor = weight.data[w];
      let sum = 0;
      for (let i = 0; i < reach; i++) {
        dx.data[from + i * step] += factor * g.data[to + i];
        sum += x.data[from + i * step] * g.data[to + i];
      }
      dw.data[w] += sum;
    });
    return { inputs: [dx], parameters: bias ? { weight: dw, bias: sumOfMaps(g) } : { weight: dw } };
  },
};

function sumOfMaps(g) {
  const found = zeros([g.shape[0]]);
  const area = sizeOf(g.shape.slice(1));
  for (let at = 0; at < g.data.length; at++) found.data[Math.floor(at / area)] += g.data[at];
  return found;
}

const linear = {
  run(node, [x]) {
    const y = zeros(node.shape);
    const { weight, bias } = node.tensors;
    const width = x.data.length;
    for (let unit = 0; unit < y.data.length; unit++) {
      let sum = 0;
      for (let i = 0; i < width; i++) sum += weight.data[unit * width + i] * x.data[i];
      y.data[unit] = sum + (bias ? bias.data[unit] : 0);
    }
    return { y };
  },
  back({ node, inputs: [x] }, g) {
    const { weight, bias } = node.tensors;
    const width = x.data.length;
    const dx = zeros(x.shape);
    const dw = zeros(weight.shape);
    for (let unit = 0; unit < g.data.length; unit++) {
      for (let i = 0; i < width; i++) {
        dx.data[i] += weight.data[unit * width + i] * g.data[unit];
        dw.data[unit * width + i] = x.data[i] * g.data[unit];
      }
    }
    return { inputs: [dx], parameters: bias ? { weight: dw, bias: like(g, Float64Array.from(g.data)) } : { weight: dw } };
  },
};

const rbf = {
  run(node, [x]) {
    const codes = node.tensors.codes.data;
    const y = zeros(node.shape);
    for (let at = 0; at < codes.length; at++) y.data[Math.floor(at / x.data.length)] += (x.data[at % x.data.length] - codes[at]) ** 2;
    return { y };
  },
  back({ node, inputs: [x] }, g) {
    const codes = node.tensors.codes.data;
    const dx = zeros(x.shape);
    for (let at = 0; at < codes.length; at++) dx.data[at % x.data.length] += 2 * (x.data[at % x.data.length] - codes[at]) * g.data[Math.floor(at / x.data.length)];
    return { inputs: [dx], parameters: {} };
  },
};

// Calls visit(output's place, positions' places in x (−1 outside), share).
function pools(node, x, visit) {
  const [maps, rows, columns] = x.shape;
  const [, outRows, outColumns] = node.shape;
  for (let row = 0; row < outRows; row++) {
    for (let column = 0; column < outColumns; column++) {
      const { positions, share } = pooled(node, [row, column], [rows, columns]);
      for (let map = 0; map < maps; map++) {
        const places = positions.map(({ at, inside }) => (inside ? (map * rows + at[0]) * columns + at[1] : -1));
        visit((map * outRows + row) * outColumns + column, places, share, map);
      }
    }
  }
}

const average = {
  run(node, [x]) {
    const y = zeros(node.shape);
    pools(node, x, (to, places, share) => {
      for (const at of places) if (at >= 0) y.data[to] += share * x.data[at];
    });
    return { y };
  },
  back({ node, inputs: [x] }, g) {
    const dx = zeros(x.shape);
    pools(node, x, (to, places, share) => {
      for (const at of places) if (at >= 0) dx.data[at] += share * g.data[to];
    });
    return { inputs: [dx], parameters: {} };
  },
};

const extreme = {
  run(node, [x]) {
    const y = zeros(node.shape);
    pools(node, x, (to, places) => (y.data[to] = x.data[taken(node, x, places)]));
    return { y };
  },
  back({ node, inputs: [x] }, g) {
    const dx = zeros(x.shape);
    pools(node, x, (to, places) => (dx.data[taken(node, x, places)] += g.data[to]));
    return { inputs: [dx], parameters: {} };
  },
};

function taken(node, x, places) {
  return places[winner(places.map((at) => x.data[at]), places.map((at) => at >= 0), node.family === "min_pool")];
}

const subsample = {
  run(node, [x]) {
    const { f } = functionOf(node.op.activation);
    const { weight, bias } = node.tensors;
    const u = zeros(node.shape);
    pools(node, x, (to, places, share, map) => {
      for (const at of places) u.data[to] += x.data[at];
      u.data[to] = weight.data[map] * u.data[to] + bias.data[map];
    });
    return { y: like(u, u.data.map(f)), u };
  },
  // g is already δ at u here
  back({ node, inputs: [x] }, g) {
    const { weight } = node.tensors;
    const dx = zeros(x.shape);
    const dw = zeros(weight.shape);
    pools(node, x, (to, places, share, map) => {
      for (const at of places) {
        dx.data[at] += weight.data[map] * g.data[to];
        dw.data[map] += x.data[at] * g.data[to];
      }
    });
    return { inputs: [dx], parameters: { weight: dw, bias: sumOfMaps(g) } };
  },
};

function normaliser(node, map) {
  const { mean, variance, weight, bias } = node.tensors;
  const deviation = Math.sqrt(variance.data[map] + node.op.eps);
  return { mean: mean.data[map], deviation, gain: weight ? weight.data[map] : 1, shift: bias ? bias.data[map] : 0 };
}

const batchNorm = {
  run(node, [x]) {
    const area = sizeOf(x.shape.slice(1));
    const each = Array.from({ length: x.shape[0] }, (_, map) => normaliser(node, map));
    return { y: like(x, x.data.map((value, at) => {
      const { mean, deviation, gain, shift } = each[Math.floor(at / area)];
      return ((value - mean) / deviation) * gain + shift;
    })) };
  },
  back({ node, inputs: [x] }, g) {
    const area = sizeOf(x.shape.slice(1));
    const each = Array.from({ length: x.shape[0] }, (_, map) => normaliser(node, map));
    const dx = like(x, g.data.map((value, at) => (value * each[Math.floor(at / area)].gain) / each[Math.floor(at / area)].deviation));
    if (!node.tensors.weight) return { inputs: [dx], parameters: {} };
    const scaled = like(x, g.data.map((value, at) => {
      const { mean, deviation } = each[Math.floor(at / area)];
      return (value * (x.data[at] - mean)) / deviation;
    }));
    return { inputs: [dx], parameters: { weight: sumOfMaps(scaled), bias: sumOfMaps(g) } };
  },
};

const activation = {
  run(node, [x]) {
    return { y: like(x, x.data.map(functionOf(node.op.activation).f)), u: x };
  },
  // g is already δ at u here
  back(layer, g) {
    return { inputs: [g], parameters: {} };
  },
};

const softmax = {
  run(node, [x]) {
    const top = Math.max(...x.data);
    const powers = x.data.map((value) => Math.exp(value - top));
    const sum = powers.reduce((a, b) => a + b, 0);
    return { y: like(x, powers.map((power) => power / sum)), u: x };
  },
  back(layer, g) {
    return { inputs: [g], parameters: {} };
  },
};

const same = {
  run: (node, [x]) => ({ y: { shape: node.shape, data: x.data } }),
  back: ({ inputs: [x] }, g) => ({ inputs: [like(x, g.data)], parameters: {} }),
};

const add = {
  run: (node, inputs) => ({ y: { shape: node.shape, data: inputs.reduce((sum, each) => addInto(sum, each.data), new Float64Array(sizeOf(node.shape))) } }),
  back: ({ inputs }, g) => ({ inputs: inputs.map(() => g), parameters: {} }),
};

export const KINDS = {
  conv, linear, rbf, subsample, activation, softmax, add,
  max_pool: extreme, min_pool: extreme, mean_pool: average, sum_pool: average, adaptive_mean_pool: average,
  batch_norm: batchNorm, identity: same, reshape: same,
};

// δ = ∂J/∂u from ∂J/∂y; ``rule`` is what stands for f′ at a rectifier (Zeiler and Fergus 2014; Springenberg et al. 2015).
export function deltaOf({ node, u, y }, g, rule) {
  if (node.family === "softmax") {
    // Σ_j y_i·y_j·(g_i − g_j): as y_i·(g_i − Σ_j y_j·g_j), whose sum is 1, a share near 1 would leave no digits.
    const against = (value) => g.data.reduce((sum, other, at) => sum + y.data[at] * (value - other), 0);
    return like(g, g.data.map((value, at) => y.data[at] * against(value)));
  }
  if (node.family !== "activation" && node.family !== "subsample") return g;
  const { slope, rectifies } = functionOf(node.op.activation);
  if (node.family === "activation" && rectifies && rule !== "plain") {
    return like(g, g.data.map((value, at) => (value > 0 ? value * (rule === "guided" ? slope(u.data[at]) : 1) : 0)));
  }
  return like(g, g.data.map((value, at) => value * slope(u.data[at])));
}

export { normaliser };
