// J and ∂J/∂y for one example, the scores that a class is said by, and what they say in shares.

function softmax(scores) {
  const top = Math.max(...scores);
  const powers = Array.from(scores, (score) => Math.exp(score - top));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}

// ln Σ exp, the largest taken out first
function logSum(scores) {
  const top = Math.max(...scores);
  return top + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - top), 0));
}

// −ln p of the class: where p is all but 1, from what the others have, or nothing of it would be left.
function surprise(y, target) {
  const others = y.filter((_, at) => at !== target).map((score) => score - y[target]);
  return others.length ? Math.log1p(Math.exp(logSum(others))) : 0;
}

const squared = (scale) => (y, target, { low, high }) => {
  const gaps = y.map((value, at) => value - (at === target ? high : low));
  return { value: gaps.reduce((sum, gap) => sum + gap * gap, 0) * 0.5 * scale(y), delta: gaps.map((gap) => gap * scale(y)) };
};

const LOSSES = {
  cross_entropy: (y, target) => {
    const p = softmax(y);
    const largest = Math.exp(Math.max(...y.filter((_, at) => at !== target)) - y[target]);
    const value = largest < 1 ? surprise(y, target) : logSum(y) - y[target];
    const others = total(p.filter((_, at) => at !== target));
    return { value, delta: p.map((share, at) => (at === target ? -others : share)) };
  },
  squared_error: squared(() => 1),
  mean_squared_error: squared((y) => 2 / y.length),
  rbf: (y, target, { j }) => {
    const rivals = [-j, ...y.map((value) => -value)];
    const shares = softmax(rivals).slice(1);
    return { value: y[target] + logSum(rivals), delta: shares.map((share, at) => (at === target ? 1 : 0) - share) };
  },
};

// {J, ∂J/∂y} of the outputs y, by how the network ends: shares are taken for what they are, no second softmax is put on them.
export function lossOf(name, y, target, { losses, ending }) {
  if (name !== "cross_entropy" || ending?.kind !== "softmax") return LOSSES[name](y, target, losses[name]);
  const others = total(y.filter((_, at) => at !== target));
  const value = others < 0.5 ? -Math.log1p(-others) : -Math.log(y[target]);
  return { value, delta: y.map((share, at) => (at === target ? -1 / Math.max(share, SMALLEST) : 0)) };
}

const SMALLEST = 2 ** -1022; // whose inverse is still a number

function total(values) {
  return values.reduce((sum, value) => sum + value, 0);
}

export function scoresOf(name, y) {
  return name === "rbf" ? y.map((value) => -value) : y;
}

// By how the network ends: a softmax has said it, what saturates is scaled; all else, and negative distances, goes through a softmax.
export function sharesOf(name, y, ends) {
  const scores = scoresOf(name, y);
  const ending = name === "rbf" ? null : ends;
  if (ending?.kind === "softmax") return [...scores];
  if (ending?.kind === "limits") {
    const found = scores.map((score) => Math.max(0, (score - ending.low) / (ending.high - ending.low)));
    const sum = total(found);
    return found.map((each) => (sum > 0 ? each / sum : 1 / found.length));
  }
  return softmax(scores);
}

export { softmax };
