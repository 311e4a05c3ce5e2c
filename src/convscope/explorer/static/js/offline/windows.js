// The true positions that a window reads, and the windows that read a position.

export function offsets({ kernel: [rows, columns] }) {
  const found = [];
  for (let y = 0; y < rows; y++) for (let x = 0; x < columns; x++) found.push([y, x]);
  return found;
}

// What output (row, column) reads: place in the window, position, whether it lies inside.
export function read(window, [row, column], [rows, columns]) {
  const { stride, padding, dilation } = window;
  return offsets(window).map(([y, x], k) => {
    const at = [row * stride[0] - padding[0] + y * dilation[0], column * stride[1] - padding[1] + x * dilation[1]];
    return { k, place: [y, x], at, inside: at[0] >= 0 && at[1] >= 0 && at[0] < rows && at[1] < columns };
  });
}

// Every pair (place in the window, output) by which an input position is read.
export function readers(window, [row, column], [rows, columns]) {
  const { stride, padding, dilation } = window;
  const found = [];
  offsets(window).forEach(([y, x], k) => {
    const top = row + padding[0] - y * dilation[0];
    const left = column + padding[1] - x * dilation[1];
    const output = [top / stride[0], left / stride[1]];
    if (output.every((at, d) => Number.isInteger(at) && at >= 0 && at < [rows, columns][d])) found.push({ k, output });
  });
  return found;
}

// The positions that a pooling's output counts, and by how much each, for every pooling of this page.
export function pooled(node, output, [rows, columns]) {
  if (node.family === "adaptive_mean_pool") {
    const size = node.shape.slice(1);
    const first = output.map((o, d) => Math.floor((o * [rows, columns][d]) / size[d]));
    const last = output.map((o, d) => Math.ceil(((o + 1) * [rows, columns][d]) / size[d]));
    const found = [];
    for (let y = first[0]; y < last[0]; y++) for (let x = first[1]; x < last[1]; x++) found.push({ at: [y, x], inside: true });
    return { positions: found, share: 1 / found.length };
  }
  let positions = read(node.window, output, [rows, columns]);
  if (node.family === "mean_pool" || node.family === "sum_pool") {
    const far = [rows + node.window.padding[0], columns + node.window.padding[1]];
    positions = positions.filter(({ at }) => at[0] < far[0] && at[1] < far[1]);
  }
  if (node.family !== "mean_pool") return { positions, share: 1 };
  const counted = node.op.count_include_pad ? positions.length : positions.filter(({ inside }) => inside).length;
  return { positions, share: 1 / (node.op.divisor ?? counted) };
}

// Which of a window's positions a maximum or minimum takes: the first of the best, a number that is none before all.
export function winner(values, inside, least = false) {
  let best = -1;
  for (let k = 0; k < values.length; k++) {
    if (!inside[k]) continue;
    if (best < 0 || (least ? values[k] < values[best] : values[k] > values[best])) best = k;
  }
  return best;
}
