"""Scores in the JSON form that marl-eval reads, for people who compare with its tools."""

from typing import Any

from vgm2p.claims.table import Results

ENVIRONMENT = "twin"


def marl_eval(found: Results) -> dict[str, Any]:
    """{environment: {task: {algorithm: {run: steps}}}}, returns as the metric `return`.

    marl-eval takes tables without holes only: sets on which one of the record's methods has not run are left
    out. Each step is the mean over an evaluation's episodes, one element of a list, and `step_count` is
    updates.
    """
    names, methods = dict.fromkeys(name for name, _ in found.lines), dict.fromkeys(m for _, m in found.lines)
    whole = [name for name in names if all((name, method) in found.lines for method in methods)]
    return {
        ENVIRONMENT: {
            name.split("/")[1]: {
                method: {f"seed_{line['seed']}": _run(line) for line in found.lines[name, method]}
                for method in methods
            }
            for name in whole
        }
    }


def _run(line) -> dict[str, Any]:
    steps = {
        f"step_{i}": {"step_count": step, "return": [mean]} for i, (step, mean) in enumerate(line["curve"], 1)
    }
    last = sum(line["returns"]) / len(line["returns"])
    return steps | {"absolute_metrics": {"return": [last]}}
