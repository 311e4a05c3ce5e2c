"""The layer table and the comparison with dense matrices, as text."""

from __future__ import annotations

from convscope.columns import aligned, ruled
from convscope.inspect.count import Count
from convscope.inspect.receptive_field import ReceptiveFields


def layer_rows(counts: Count, fields: ReceptiveFields) -> list[tuple[str, ...]]:
    """A heading and one row a layer: name, kind, output, parameters, multiply-adds, receptive field, its step."""
    seen = set(fields.layers())
    rows: list[tuple[str, ...]] = [
        ("layer", "kind", "output", "parameters", "multiply-adds", "receptive field", "step"),
    ]
    for layer in counts:
        if layer.output_shape is None:
            continue
        field = fields[layer.name] if layer.name in seen else None
        rows.append(
            (
                layer.name,
                layer.kind,
                "×".join(map(str, layer.output_shape)),
                f"{layer.parameters:,}" if layer.parameters else "–",
                f"{layer.multiply_adds:,}" if layer.multiply_adds else "–",
                "×".join(f"{size:g}" for size in field.size) if field is not None else "–",
                "×".join(f"{step:g}" for step in field.jump) if field is not None and field.jump else "–",
            )
        )
    return rows


def layer_table(counts: Count, fields: ReceptiveFields) -> str:
    """``layer_rows`` with totals, as text; the receptive field in pixels of the input."""
    rows = layer_rows(counts, fields)
    shape = counts.input_size
    total = ("total", "", f"{shape} in", f"{counts.parameters:,}", f"{counts.multiply_adds:,}", "", "")
    text = ruled([*rows, total], left=3)
    if counts.uncalled:
        text += f"\n{counts.uncalled:,} of the parameters belong to layers that only training calls."
    return text


def dense_table(counts: Count) -> str:
    """What every convolution would cost as one dense matrix (Goodfellow et al. 2016, section 9.2)."""
    rows: list[tuple[str, ...]] = [
        (
            "layer",
            "operations",
            "… as a matrix",
            "times",
            "matrix elements",
            "not zero",
            "weights",
            "sharing",
            "sparsity",
        )
    ]
    for layer in counts:
        if layer.dense is None:
            continue
        dense = layer.dense
        rows.append(
            (
                layer.name,
                f"{layer.operations:,}",
                f"{dense.operations:,}",
                f"{dense.operations / max(layer.operations, 1):,.0f}",
                f"{dense.elements:,}",
                f"{dense.nonzero:,}",
                f"{dense.parameters:,}",
                f"{dense.sharing:,.0f}",
                f"{dense.sparsity:,.0f}",
            )
        )
    if len(rows) == 1:
        return "No convolutions."
    return (
        aligned(rows, left=1)
        + "\n\nsharing: connections that one weight serves; sparsity: matrix elements for every connection that exists."
    )
