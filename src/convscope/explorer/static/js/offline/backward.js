// δ of one unit as the sum over what it feeds, times f′ where a non-linearity stands; a weight's gradient as the sum
// over every place where it was used.

import { kernelPlace, poolTerms } from "./forward.js";
import { functionOf } from "./functions.js";
import { linksOf, normaliser } from "./kinds.js";
import { softmax } from "./losses.js";
import { line } from "./sums.js";
import { indexOf, placeOf, total } from "./tensor.js";
import { pooled, readers } from "./windows.js";

const at = (x, index) => x.data[placeOf(x.shape, index)];
const one = (coefficient, value, source) => [{ coefficient, value, product: coefficient * value, source }];

// snapshot: {layers, network, deltas(rule), outputDelta, loss name, target}
export function explainBackward(snapshot, name, index, rule) {
  const { network, layers } = snapshot;
  const layer = layers.get(name);
  const back = snapshot.back(rule);
  const value = at(back.get(name).delta, index);
  const behind = network.activationAfter(name);
  const done = { layer: name, direction: "backward", family: layer.node.family, index, value };
  if (name === network.output && layer.node.family !== "softmax") return { ...done, ...ofLoss(snapshot, layer, index, value) };
  if (behind === network.output) return { ...done, ...ofLoss(snapshot, layers.get(behind), index, value, name) };
  if (layer.node.family === "softmax") return { ...done, ...throughItself(layer, index, value, back.get(name).upstream) };
  const through = layer.node.facts.slope ? name : behind;
  const following = network.readers.get(through ?? name);
  const terms = [];
  const silent = [];
  following.forEach(([reader, place], origin) => {
    const rows = backThrough(layers.get(reader), place, index, back.get(reader).delta);
    if (!rows.length) silent.push([reader, "stepped_over"]);
    else if (layers.get(reader).node.facts.picks && rows.every((row) => row.coefficient === 0)) silent.push([reader, "lost"]);
    for (const row of rows) terms.push({ ...row, origin });
  });
  const only = following.every(([reader]) => layers.get(reader).node.facts.weights);
  const factor = only ? "w" : "∂u/∂y";
  const steps = [];
  if (through) {
    const above = total(terms.map((row) => row.product));
    steps.push(line("=", "∂J/∂y", above), slopeLine(layers.get(through), index, above, rule));
  }
  steps.push(line("=", "δ", value));
  const rectifies = through && layers.get(through).node.family === "activation" && functionOf(layers.get(through).node.op.activation).rectifies;
  return {
    ...done, formula: through ? `δ = f′(u)·Σ ${factor}·δ` : `δ = Σ ${factor}·δ`, headings: [factor, "δ", `${factor}·δ`],
    terms, steps, silent, origins: following.map(([reader]) => reader), through: through && through !== name ? through : null, note: rectifies ? rule : "",
  };
}

function slopeLine(layer, index, above, rule) {
  const { slope, rectifies } = functionOf(layer.node.op.activation);
  const found = slope(at(layer.u, index));
  if (rule === "plain" || !rectifies || layer.node.family !== "activation") return line("×", "f′(u)", found);
  const passes = above > 0 ? 1 : 0;
  return rule === "deconv" ? line("×", "[∂J/∂y > 0]", passes) : line("×", "f′(u)·[∂J/∂y > 0]", passes * found);
}

function throughItself({ node, y }, index, value, upstream) {
  const here = at(y, index);
  const own = placeOf(y.shape, index);
  const others = total(Array.from(y.data).filter((_, i) => i !== own));
  const terms = Array.from(y.data, (p, i) => {
    const coefficient = here * (i === own ? others : -p);
    return { coefficient, value: upstream.data[i], product: coefficient * upstream.data[i], source: [i] };
  });
  return { formula: "δ = Σ ∂y/∂u·∂J/∂y", headings: ["∂y/∂u", "∂J/∂y", "∂y/∂u·∂J/∂y"], terms, steps: [line("=", "δ", value)], origins: [node.name] };
}

// At the output: ∂J/∂y, for cross-entropy with the softmax's own sum; through the activation that ends the network.
function ofLoss(snapshot, last, index, value, before = null) {
  const [here] = index;
  const y = [...last.y.data];
  const { lossName, target, outputDelta } = snapshot;
  const done = { family: "loss", origins: [last.node.name], note: lossName };
  if (before !== null || last.node.family === "activation") {
    const { slope } = functionOf(last.node.op.activation);
    const terms = [{ value: y[here], product: outputDelta[here], source: [here] }];
    const steps = [line("×", "f′(u)", slope(at(last.u, index))), line("=", "δ", value)];
    return { ...done, formula: "δ = f′(u)·∂J/∂y", headings: ["", "y", "∂J/∂y"], terms, steps, through: before === null ? null : last.node.name };
  }
  if (lossName !== "cross_entropy") {
    const terms = [{ value: y[here], product: outputDelta[here], source: [here] }];
    return { ...done, formula: "δ = ∂J/∂y", headings: ["", "y", "∂J/∂y"], terms, steps: [line("=", "δ", value)] };
  }
  const top = Math.max(...y);
  const terms = y.map((z, i) => ({ value: z, product: Math.exp(z - top), source: [i] }));
  const steps = [line("^", "−1", -1), line("×", "exp(z − max)", Math.exp(y[here] - top)), line("=", "p", softmax(y)[here]), line("−", "t", here === target ? 1 : 0), line("=", "δ", value)];
  return { ...done, formula: "δ = p − t,  p = exp(z − max) / Σ exp(z − max)", headings: ["", "z", "exp(z − max)"], terms, steps };
}

// What δ of a reader sends to one position of its input.
function backThrough(reader, place, index, delta) {
  const { node } = reader;
  switch (node.family) {
    case "conv":
      return throughConv(node, index, delta);
    case "linear":
      return Array.from(delta.data, (value, unit) => {
        const coefficient = node.tensors.weight.data[unit * reader.inputs[0].data.length + index[0]];
        return { coefficient, value, product: coefficient * value, source: [unit], weight: [unit, index[0]] };
      });
    case "rbf":
      return Array.from(delta.data, (value, unit) => {
        const coefficient = 2 * (at(reader.inputs[0], index) - node.tensors.codes.data[unit * reader.inputs[0].data.length + index[0]]);
        return { coefficient, value, product: coefficient * value, source: [unit] };
      });
    case "batch_norm": {
      const { gain, deviation } = normaliser(node, index[0]);
      return one(gain / deviation, at(delta, index), index);
    }
    case "reshape": {
      const to = indexOf(node.shape, placeOf(reader.inputs[0].shape, index));
      return one(1, at(delta, to), to);
    }
    case "max_pool": case "min_pool": case "mean_pool": case "sum_pool": case "subsample": case "adaptive_mean_pool":
      return throughPool(reader, index, delta);
    default:
      return one(1, at(delta, index), index);
  }
}

function throughConv(node, index, delta) {
  const terms = [];
  const pairs = readers(node.window, index.slice(1), node.shape.slice(1));
  for (const link of linksOf(node)) {
    if (link.source !== index[0]) continue;
    for (const { k, output } of pairs) {
      const columns = node.window.kernel[1];
      const { weight, value: coefficient } = kernelPlace(node, link, [Math.floor(k / columns), k % columns]);
      const source = [link.out, ...output];
      const value = at(delta, source);
      terms.push({ coefficient, value, product: coefficient * value, source, weight });
    }
  }
  return terms;
}

function throughPool(reader, index, delta) {
  const { node, inputs: [x] } = reader;
  const mine = (place) => place[0] === index[1] && place[1] === index[2];
  const outputs = [];
  if (node.family === "adaptive_mean_pool") {
    for (let row = 0; row < node.shape[1]; row++) {
      for (let column = 0; column < node.shape[2]; column++) {
        if (pooled(node, [row, column], x.shape.slice(1)).positions.some(({ at: place }) => mine(place))) outputs.push([row, column]);
      }
    }
  } else outputs.push(...readers(node.window, index.slice(1), node.shape.slice(1)).map(({ output }) => output));
  return outputs.map((output) => {
    const unit = [index[0], ...output];
    const row = poolTerms(reader, unit).find(({ source }) => mine(source.slice(1)));
    const coefficient = node.family === "subsample" ? node.tensors.weight.data[index[0]] : row.coefficient;
    const value = at(delta, unit);
    return { coefficient, value, product: coefficient * value, source: unit };
  });
}

const XD = ["x", "δ", "x·δ"];

export function explainGradient(snapshot, name, parameter, index) {
  const layer = snapshot.layers.get(name);
  const { delta, gradients } = snapshot.back("plain").get(name);
  const value = at(gradients[parameter], index);
  const found = gradientTerms(layer, parameter, index, delta);
  return { layer: name, direction: "gradient", family: layer.node.family, index, value, origins: layer.node.sources, parameter, steps: [line("=", "∂J/∂w", value)], ...found };
}

function gradientTerms(layer, parameter, index, delta) {
  const { node, inputs: [x] } = layer;
  if (node.family === "conv" && parameter === "weight") return { formula: "∂J/∂w = Σ x·δ", headings: XD, terms: kernelGradient(node, x, index, delta) };
  if (node.family === "linear") {
    const value = delta.data[index[0]];
    if (parameter === "bias") return { formula: "∂J/∂b = δ", headings: ["", "δ", "δ"], terms: [{ value, product: value, source: [index[0]] }] };
    const coefficient = x.data[index[1]];
    return { formula: "∂J/∂w = x·δ", headings: XD, terms: [{ coefficient, value, product: coefficient * value, source: [index[0]], at: [index[1]] }] };
  }
  const area = delta.data.length / delta.shape[0];
  const values = delta.data.subarray(index[0] * area, (index[0] + 1) * area);
  const source = (place) => [index[0], ...indexOf(delta.shape.slice(1), place)];
  if (parameter === "bias") return { formula: `∂J/∂${node.family === "batch_norm" ? "β" : "b"} = Σ δ`, headings: ["", "δ", "δ"], terms: Array.from(values, (value, place) => ({ value, product: value, source: source(place) })) };
  const terms = Array.from(values, (value, place) => {
    const coefficient = node.family === "subsample" ? total(poolTerms(layer, source(place)).map((row) => row.value)) : normalised(node, x, source(place));
    return { coefficient, value, product: coefficient * value, source: source(place) };
  });
  return { formula: "∂J/∂w = Σ ∂u/∂w·δ", headings: ["∂u/∂w", "δ", "∂u/∂w·δ"], terms };
}

function normalised(node, x, index) {
  const { mean, deviation } = normaliser(node, index[0]);
  return (at(x, index) - mean) / deviation;
}

function kernelGradient(node, x, index, delta) {
  const [rows, columns] = node.window.kernel;
  const place = node.op.flip ? [rows - 1 - index.at(-2), columns - 1 - index.at(-1)] : index.slice(-2);
  const link = linksOf(node).find(({ leading }) => leading.every((each, d) => each === index[d]));
  const { stride, padding, dilation } = node.window;
  const [, outRows, outColumns] = delta.shape;
  const terms = [];
  for (let row = 0; row < outRows; row++) {
    for (let column = 0; column < outColumns; column++) {
      const position = [row * stride[0] - padding[0] + place[0] * dilation[0], column * stride[1] - padding[1] + place[1] * dilation[1]];
      const inside = position.every((each, d) => each >= 0 && each < x.shape[d + 1]);
      const coefficient = inside ? at(x, [link.source, ...position]) : 0;
      const value = at(delta, [link.out, row, column]);
      terms.push({ coefficient, value, product: coefficient * value, source: [link.out, row, column], at: [link.source, ...position], padding: !inside });
    }
  }
  return terms;
}
