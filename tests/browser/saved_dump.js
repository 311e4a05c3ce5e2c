// Everything that a saved page's scripts compute of a model, for the tests: values, δ, gradients, and sums of drawn units.
async ([plan, units]) => {
  const { Offline } = await import("convscope/offline/source.js");
  const source = new Offline(plan);
  source.check();
  const back = source.snapshot.back("plain");
  const found = { logits: source.snapshot.logits, loss: source.snapshot.loss, y: {}, upstream: {}, gradients: {}, sums: [] };
  for (const [name, { y, node }] of source.snapshot.layers) {
    found.y[name] = [...y.data];
    found.upstream[name] = [...back.get(name).upstream.data];
    for (const [parameter, { data }] of Object.entries(back.get(name).gradients)) found.gradients[`${name}.${parameter}`] = [...data];
    for (const draw of units) {
      const index = node.shape.map((side, d) => Math.floor(draw[d] * side));
      for (const direction of ["forward", "backward"]) {
        const page = await source.ask("explain", { layer: name, index, direction, limit: 5000 });
        const largest = Math.max(...page.terms.product.map(Math.abs), Math.abs(page.value), ...page.steps.map((step) => Math.abs(step.value)));
        found.sums.push([`${direction} ${name} ${index}`, page.computed, page.value, largest]);
      }
    }
    for (const [parameter, shape] of Object.entries(node.parameters)) for (const draw of units) {
      const index = shape.map((side, d) => Math.floor(draw[d] * side));
      const page = await source.ask("explain", { layer: name, index, direction: "gradient", parameter, limit: 5000 });
      found.sums.push([`gradient ${name} ${index}`, page.computed, page.value, Math.max(...page.terms.product.map(Math.abs), Math.abs(page.value))]);
    }
  }
  return found;
}
