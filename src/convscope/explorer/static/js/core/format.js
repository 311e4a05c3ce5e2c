// Numbers for people: enough digits, a real minus sign, the exact value kept beside them.

export function digitsFor(scale) {
  if (!Number.isFinite(scale) || scale === 0) return 4;
  return Math.min(12, Math.max(2, 4 - Math.floor(Math.log10(Math.abs(scale)))));
}

export function fixed(value, digits) {
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return String(value);
  const text = Math.abs(value).toFixed(digits);
  return value < 0 && Number(text) !== 0 ? `−${text}` : text;
}

export function short(value, significant = 4) {
  if (typeof value === "string") return value;
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e6 || size < 1e-4 ? size.toExponential(significant - 1) : trimmed(size, significant);
  return value < 0 ? `−${text.replace("e-", "e−")}` : text.replace("e-", "e−");
}

function trimmed(size, significant) {
  const digits = Math.max(0, significant - 1 - Math.floor(Math.log10(size)));
  return size.toFixed(Math.min(digits, 12));
}

export function percent(value) {
  if (value > 0.9995 && value < 1) return "> 99.9 %";
  return `${(value * 100).toFixed(1)} %`;
}

// Spoken and copied: the full value.
export function exact(value) {
  return typeof value === "number" && !Object.is(value, -0) ? String(value) : "0";
}

export function count(value) {
  return value.toLocaleString("en-US");
}
