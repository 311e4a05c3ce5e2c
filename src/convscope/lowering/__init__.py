"""From a model's graph to a plan of operations that knows no layout and no backend."""
