// Whether an answer is right: a number within its tolerance, the right choice, one of the right units.

// What was typed as a number: a comma or a real minus sign will do; NaN for anything else.
export function numberOf(text) {
  const plain = text.trim().replaceAll("−", "-").replace(",", ".");
  return plain === "" ? NaN : Number(plain);
}

// {right, near}: near tells what to look at again, the sign or the rounding; the slack is float64's own.
export function judgeNumber(given, { exact, tolerance }) {
  const slack = 1e-12 * (1 + Math.abs(exact));
  const off = Math.abs(given - exact);
  if (off <= tolerance + slack) return { right: true, near: null };
  if (exact !== 0 && Math.abs(given + exact) <= tolerance + slack) return { right: false, near: "sign" };
  return { right: false, near: tolerance > 0 && off <= 5 * tolerance ? "rounding" : null };
}

// The unit, map or layer that is chosen on the page; null where what is chosen says too little.
export function judgeUnit({ layer, map, unit }, { accept, layer: wanted, map: number }) {
  if (!layer) return null;
  if (accept.length) {
    if (!unit) return null;
    return layer === wanted && accept.some((each) => each.length === unit.length && each.every((at, d) => at === unit[d]));
  }
  if (number !== null && map === null) return null;
  return layer === wanted && (number === null || map === number);
}
