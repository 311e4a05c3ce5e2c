// One step of a number's arithmetic after the sum of its terms: what the value is afterwards.

export function after(value, step) {
  switch (step.operation) {
    case "+":
      return value + step.value;
    case "−":
      return value - step.value;
    case "×":
      return value * step.value;
    case "÷":
      return value / step.value;
    case "^":
      return value ** step.value;
    case "√":
      return Math.sqrt(value);
    case "f":
      return step.value;
    default: // "=", which names a value and changes none
      return value;
  }
}
