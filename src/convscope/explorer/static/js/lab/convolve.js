// Cross-correlation and its transpose on small pictures, written out: out[g][i][j] = Σ w[u][v] · x[i·s + u·d − p][j·s + v·d − p].
// One kernel is used for every channel; with groups = channels each channel is a map of its own, else they are summed.

export const LIMITS = { size: 7, stride: 5, padding: 8, dilation: 4 };

// Why these settings cannot be, as a text's key with its blanks; null where they can.
export function wrong({ kernel, stride, padding, dilation, groups, transpose }, [channels, height, width]) {
  const size = kernel.length;
  for (const [name, value, low, high] of [["size", size, 1, LIMITS.size], ["stride", stride, 1, LIMITS.stride], ["padding", padding, 0, LIMITS.padding], ["dilation", dilation, 1, LIMITS.dilation], ["groups", groups, 1, channels]]) {
    if (!Number.isInteger(value) || value < low || value > high) return { key: "lab_wrong_number", values: { name, low, high } };
  }
  if (channels % groups !== 0) return { key: "lab_wrong_groups", values: { channels, groups } };
  const reach = dilation * (size - 1) + 1;
  if (!transpose && reach > Math.min(height, width) + 2 * padding) return { key: "lab_wrong_reach", values: { reach, side: Math.min(height, width) + 2 * padding } };
  const [rows, columns] = outputSize({ kernel, stride, padding, dilation, transpose }, height, width);
  if (rows < 1 || columns < 1) return { key: "lab_wrong_empty", values: { rows, columns } };
  return null;
}

export function outputSize({ kernel, stride, padding, dilation, transpose }, height, width) {
  const reach = dilation * (kernel.length - 1) + 1;
  const side = (n) => (transpose ? (n - 1) * stride - 2 * padding + reach : Math.floor((n + 2 * padding - reach) / stride) + 1);
  return [side(height), side(width)];
}

// The terms of output (map, row, column): [channel, u, v, row, column, weight, x]; padding has row and column outside.
export function terms(values, [channels, height, width], settings, map, row, column) {
  const { kernel, stride, padding, dilation, groups, transpose } = settings;
  const size = kernel.length;
  const per = channels / groups;
  const found = [];
  for (let channel = map * per; channel < (map + 1) * per; channel++) {
    for (let u = 0; u < size; u++) {
      for (let v = 0; v < size; v++) {
        let r = row * stride + u * dilation - padding;
        let c = column * stride + v * dilation - padding;
        if (transpose) {
          r = (row + padding - u * dilation) / stride;
          c = (column + padding - v * dilation) / stride;
          if (!Number.isInteger(r) || !Number.isInteger(c) || r < 0 || c < 0 || r >= height || c >= width) continue;
        }
        const inside = r >= 0 && c >= 0 && r < height && c < width;
        found.push([channel, u, v, r, c, kernel[u][v], inside ? values[(channel * height + r) * width + c] : 0]);
      }
    }
  }
  return found;
}

export function convolve(values, shape, settings) {
  const [rows, columns] = outputSize(settings, shape[1], shape[2]);
  const found = new Float64Array(settings.groups * rows * columns);
  let at = 0;
  for (let map = 0; map < settings.groups; map++) {
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        let sum = 0;
        for (const term of terms(values, shape, settings, map, row, column)) sum += term[5] * term[6];
        found[at++] = sum;
      }
    }
  }
  return { values: found, shape: [settings.groups, rows, columns] };
}
