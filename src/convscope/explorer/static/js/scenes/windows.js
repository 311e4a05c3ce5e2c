// The window of a unit: its true places on a source map, and the values there.

export function find(data, role, row = null) {
  return data.panels.find((panel) => panel.role === role && (row === null || panel.row === row));
}

export function windowBox(window, cell) {
  const at = window.kernel.length === 1 ? [cell[1]] : cell;
  const start = at.map((o, d) => o * window.stride[d] - window.padding[d]);
  if (window.kernel.length === 1) start.unshift(0);
  const kernel = window.kernel.length === 1 ? [1, ...window.kernel] : window.kernel;
  const dilation = window.dilation.length === 1 ? [1, ...window.dilation] : window.dilation;
  return { start, kernel, dilation, reach: kernel.map((k, d) => (k - 1) * dilation[d] + 1) };
}

// The cells of a reader's output, rows × columns, whose windows read a cell.
export function readersOf(window, cell, [rows, columns]) {
  const flat = window.kernel.length === 1;
  const [kernel, stride, padding, dilation] = ["kernel", "stride", "padding", "dilation"].map((key) => (flat ? [key === "padding" ? 0 : 1, ...window[key]] : window[key]));
  const along = (d, count) => [...Array(count).keys()].filter((o) => {
    const ahead = cell[d] + padding[d] - o * stride[d];
    return ahead >= 0 && ahead % dilation[d] === 0 && ahead / dilation[d] < kernel[d];
  });
  const across = along(1, columns);
  return along(0, rows).flatMap((row) => across.map((column) => [row, column]));
}

// The window's values of a source map; null where only means were sent.
export function patch(panel, box) {
  if (panel.full[0] !== panel.height || panel.full[1] !== panel.width) return null;
  const found = [];
  for (let y = 0; y < box.kernel[0]; y++) {
    for (let x = 0; x < box.kernel[1]; x++) {
      const row = box.start[0] + y * box.dilation[0];
      const column = box.start[1] + x * box.dilation[1];
      const inside = row >= 0 && column >= 0 && row < panel.height && column < panel.width;
      found.push({ row, column, inside, value: inside ? panel.values[row * panel.width + column] : 0 });
    }
  }
  return found;
}

export function subtotal(data, panel, box) {
  const kernel = find(data, "kernel", panel.row);
  const cells = patch(panel, box);
  if (!kernel || !cells) return null;
  return cells.reduce((sum, cell, k) => sum + cell.value * kernel.values[k], 0);
}

