// Element-wise functions by the names of the table of activations: f, and its derivative where torch takes a side.

const sigmoid = (u) => (u >= 0 ? 1 / (1 + Math.exp(-u)) : Math.exp(u) / (1 + Math.exp(u)));
const clamp = (u, low, high) => Math.min(high, Math.max(low, u));
const A = 1.7159;
const B = 2 / 3;

export const FUNCTIONS = {
  linear: () => ({ f: (u) => u, slope: () => 1 }),
  relu: () => ({ f: (u) => Math.max(0, u), slope: (u) => (u > 0 ? 1 : 0), rectifies: true }),
  relu6: () => ({ f: (u) => clamp(u, 0, 6), slope: (u) => (u > 0 && u < 6 ? 1 : 0), rectifies: true }),
  leaky_relu: ({ negative_slope: a }) => ({ f: (u) => (u > 0 ? u : a * u), slope: (u) => (u > 0 ? 1 : a) }),
  elu: ({ alpha }) => ({ f: (u) => (u > 0 ? u : alpha * Math.expm1(u)), slope: (u) => (u > 0 ? 1 : alpha * Math.exp(u)) }),
  sigmoid: () => ({ f: sigmoid, slope: (u) => sigmoid(u) * (1 - sigmoid(u)) }),
  scaled_sigmoid: ({ beta }) => ({ f: (u) => sigmoid(beta * u), slope: (u) => beta * sigmoid(beta * u) * (1 - sigmoid(beta * u)) }),
  tanh: () => ({ f: Math.tanh, slope: (u) => 1 - Math.tanh(u) ** 2 }),
  scaled_tanh: () => ({ f: (u) => A * Math.tanh(B * u), slope: (u) => A * B * (1 - Math.tanh(B * u) ** 2) }),
  softsign: () => ({ f: (u) => u / (1 + Math.abs(u)), slope: (u) => (1 + Math.abs(u)) ** -2 }),
  hardtanh: ({ min_val: low, max_val: high }) => ({ f: (u) => clamp(u, low, high), slope: (u) => (u > low && u < high ? 1 : 0) }),
  hardsigmoid: () => ({ f: (u) => clamp(u + 3, 0, 6) / 6, slope: (u) => (u > -3 && u < 3 ? 1 / 6 : 0) }),
  hardswish: () => ({ f: (u) => (u * clamp(u + 3, 0, 6)) / 6, slope: (u) => (u <= -3 ? 0 : u >= 3 ? 1 : (2 * u + 3) / 6) }),
  silu: () => ({ f: (u) => u * sigmoid(u), slope: (u) => sigmoid(u) * (1 + u * (1 - sigmoid(u))) }),
  softplus: ({ beta, threshold }) => ({
    f: (u) => (beta * u > threshold ? u : Math.log1p(Math.exp(beta * u)) / beta),
    slope: (u) => (beta * u > threshold ? 1 : sigmoid(beta * u)),
  }),
};

export function functionOf({ name, options }) {
  return FUNCTIONS[name](options);
}
