// Numbers in a shape, float64, row by row; a batch of one is not written.

export function sizeOf(shape) {
  return shape.reduce((product, side) => product * side, 1);
}

export function zeros(shape) {
  return { shape, data: new Float64Array(sizeOf(shape)) };
}

export function like(x, data) {
  return { shape: x.shape, data };
}

export function placeOf(shape, index) {
  return index.reduce((place, at, d) => place * shape[d] + at, 0);
}

export function indexOf(shape, place) {
  const index = new Array(shape.length);
  let rest = place;
  for (let d = shape.length - 1; d >= 0; d--) {
    index[d] = rest % shape[d];
    rest = Math.floor(rest / shape[d]);
  }
  return index;
}

// Neumaier's sum: rounding of the order of one last digit, however many terms.
export function total(values) {
  let sum = 0;
  let lost = 0;
  for (const value of values) {
    const next = sum + value;
    lost += Math.abs(sum) >= Math.abs(value) ? sum - next + value : value - next + sum;
    sum = next;
  }
  return sum + lost;
}

export function addInto(target, values) {
  for (let at = 0; at < values.length; at++) target[at] += values[at];
  return target;
}

// float32, little-endian, in base64: how weights and pictures lie in the page.
export function fromBase64(text) {
  const raw = atob(text);
  const found = new Uint8Array(raw.length);
  for (let at = 0; at < raw.length; at++) found[at] = raw.charCodeAt(at);
  return found;
}

export function nearSquare(count) {
  const columns = Math.max(1, Math.ceil(Math.sqrt(count)));
  return [Math.ceil(count / columns), columns];
}
