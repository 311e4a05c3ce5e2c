"""The options of ``train`` that set a field of ``convscope.training.Config``: one row a field.

Nothing is imported from the training room, so that the help stays quick; a test holds the two lists together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from convscope.cli.options import GroupedOption, parse_pairs

F = TypeVar("F", bound=Callable[..., Any])

# heading → (flags, field, type, default as shown, help); type "pairs" is repeatable KEY=VALUE, "flag" is --x/--no-x
ROWS: dict[str, list[tuple[str, str, Any, str, str]]] = {
    "Task": [("--set", "settings", "pairs", "", "A setting of the task's own page; may be repeated.")],
    "How long": [
        ("-e --epochs", "epochs", int, "12", "Passes over the training pictures."),
        ("--max-steps", "max_steps", int, "", "At most so many descent steps in all."),
        ("-b --batch-size", "batch_size", int, "64", "Pictures a descent step, over all processes together."),
        (
            "--stop-tolerance --early-stop",
            "stop_tolerance",
            float,
            "0: never",
            "Stop early when the loss changes by less than this from epoch to epoch (ΔJ ≈ 0) …",
        ),
        ("--stop-patience", "stop_patience", int, "3", "… for so many epochs running."),
        (
            "--average-epochs",
            "average_epochs",
            int,
            "1",
            "The finished model is the mean of the weights after so many of the last epochs.",
        ),
    ],
    "The descent step": [
        (
            "--optimiser --optimizer",
            "optimiser",
            str,
            "adam",
            "sgd, nesterov, adam, adamw, rmsprop, adagrad, or the name of a torch.optim class.",
        ),
        ("--lr --learning-rate", "learning_rate", float, "the optimiser's usual one", "Step length."),
        ("--momentum", "momentum", float, "0.9", "Share of the last step kept (sgd, nesterov, rmsprop)."),
        ("--weight-decay", "weight_decay", float, "0", "λ of the penalty λ/2·‖w‖²."),
        ("--gradient-clip", "gradient_clip", float, "any length", "Longest gradient (L2 norm) let through."),
        ("--optimiser-option", "optimiser_options", "pairs", "", "Passed on to the optimiser, e.g. betas=[0.9,0.99]."),
        (
            "--learning-rates",
            "learning_rates",
            "pairs",
            "",
            "Factor on the rate by parameter-name prefix, e.g. c1=0.1; 0 freezes.",
        ),
        (
            "--schedule",
            "schedule",
            str,
            "cosine",
            "The rate over time: constant, step, exponential, decaying, cosine, one_cycle, inverse_square_root.",
        ),
        ("--schedule-option", "schedule_options", "pairs", "", "A number of the schedule, e.g. factor=0.5."),
        ("--warmup", "warmup", float, "0", "Epochs over which the rate first rises from 0."),
    ],
    "Loss and start": [
        (
            "--loss",
            "loss",
            str,
            "the architecture's own",
            "cross_entropy, squared_error, mean_squared_error, binary_cross_entropy, hinge, rbf.",
        ),
        (
            "--init",
            "init",
            str,
            "default",
            "How weights are drawn: default, lecun_uniform, lecun_normal, glorot_uniform, glorot_normal, he_uniform, "
            "he_normal, uniform, normal.",
        ),
        ("--init-scale", "init_scale", float, "its own", "The constant of the initialiser's formula."),
        ("-s --seed", "seed", int, "0", "All chance in a run derives from it."),
    ],
    "The pictures": [
        (
            "-a --augment",
            "augment",
            str,
            "none",
            'Operations on every training batch, e.g. "flip" or "translate:2,rotate:10".',
        ),
        ("--fit", "fit", str, "auto", "How a picture meets the model's size: resize, pad, crop, auto."),
    ],
    "The engine": [
        ("--engine", "engine", str, "auto", "auto, native, torch, or rules (the equations, step by step; slow)."),
        ("--device", "device", str, "auto", "cpu, cuda, cuda:1 …; auto takes a GPU when there is one."),
        ("--precision", "precision", str, "auto", "float32, bfloat16, float64."),
        ("--compile", "compile", "flag", "on a GPU only", "torch.compile the model."),
        ("-t --threads", "threads", int, "as torch is set", "CPU threads."),
        (
            "--sync-batch-norm",
            "sync_batch_norm",
            "flag",
            "off",
            "Of several processes: batch normalisation by the whole batch's statistics.",
        ),
        (
            "--process-timeout",
            "process_timeout",
            float,
            "300",
            "Of several processes: seconds after which one that is not heard of counts as lost.",
        ),
        (
            "--check",
            "check_engine",
            "flag",
            "on",
            "Compare the native engine's first step and evaluation with torch's.",
        ),
    ],
    "The run folder": [
        ("-r --run-dir", "run_dir", str, "runs/<model>-<data>-<number>", "Where everything is written."),
        ("--checkpoint-seconds", "checkpoint_seconds", float, "60", "Least time between checkpoints in an epoch."),
        ("--checkpoint-batches", "checkpoint_batches", int, "", "Also a checkpoint every so many batches."),
        ("--keep-checkpoints", "keep_checkpoints", int, "2", "Newest checkpoints that stay."),
        ("--log --logger", "log", str, "csv", "csv, or tensorboard: files for TensorBoard in the run folder as well."),
        (
            "--watch",
            "watch",
            "flag",
            "on",
            "Record activations, sensitivities, dead units and kernels after every epoch.",
        ),
        ("--evaluate-every", "evaluate_every", int, "1", "Epochs between evaluations."),
        ("--evaluation-batch-size", "evaluation_batch_size", int, "256", "Pictures at a time when evaluating."),
    ],
}


def training_options(function: F) -> F:
    """Decorate a command with an option for every row; those not given stay None."""
    for heading, rows in reversed(ROWS.items()):
        for flags, field, kind, default, text in reversed(rows):
            names = flags.split()
            settings: dict[str, Any] = {"cls": GroupedOption, "heading": heading}
            settings["help"] = f"{text} [default: {default}]" if default else text
            if kind == "pairs":
                settings |= {"multiple": True, "metavar": "KEY=VALUE"}
            elif kind == "flag":
                names = [f"{name}/--no-{name.removeprefix('--')}" for name in names]
                settings["default"] = None
            else:
                settings["type"] = kind
                settings["metavar"] = {int: "N", float: "X", str: "NAME"}[kind]
            if field == "run_dir":
                settings["metavar"] = "DIR"
            function = click.option(*names, field, **settings)(function)
    return function


def given_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Of the options' values those that were given, as fields of ``Config``."""
    found: dict[str, Any] = {}
    for rows in ROWS.values():
        for flags, field, kind, _, _ in rows:
            value = values.get(field)
            if kind == "pairs" and value:
                found[field] = parse_pairs(value, flags.split()[0])
            elif kind != "pairs" and value is not None:
                found[field] = value
    return found
