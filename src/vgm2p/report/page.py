"""The page: what the records and runs hold, laid out by `page.html`, with style, script and films inside."""

import base64
from pathlib import Path
from typing import Any

import numpy as np

from vgm2p.algorithms import CONTINUOUS
from vgm2p.claims import ablations, aims, devices, efficiency, sensitivity, smax, table, tactics, wide
from vgm2p.claims.table import BESIDE, MAIN, Results, explained
from vgm2p.claims.words import Words, short
from vgm2p.command import command
from vgm2p.data.store import replace_file
from vgm2p.errors import InputError
from vgm2p.report import figures
from vgm2p.report.content import Records, Run, curve_of, records, runs
from vgm2p.report.figures import Dot
from vgm2p.report.template import fill
from vgm2p.runs import experiment_from
from vgm2p.stats import interquartile_mean, interval, stratified_interval
from vgm2p.tasks import BATTLES, TWINS, published, task


def write_report(folders: list[Path], results: Path, path: Path) -> None:
    """Write the page of the run folders and of the records in `results` to `path`, whole or not at all.

    Raises InputError if there is nothing to show, or a package is missing.
    """
    record, own = records(results), runs(folders)
    if not own and not any(vars(record).values()):
        raise InputError(f"nothing to report: no run folder was named and {results} holds no table.jsonl")
    html = render(record, own)
    replace_file(path, lambda p: p.write_text(html, encoding="utf-8"))


def render(record: Records, own: list[Run]) -> str:
    """The page as text; the same content gives the same bytes."""
    found, battles = Results(record.table), smax.results(record.smax)
    return fill(
        "page.html",
        legend={name: figures.sample(name) for name in CONTINUOUS},
        aims=aims.judged(record.table, record.sensitivity, record.efficiency, record.smax)
        if record.table
        else [],
        scores=_scores(found),
        tables=_tables(found),
        published=table.published_returns(),
        battles=_battles(battles),
        curves=_curves(found),
        sweeps=_sweeps(record.sensitivity),
        efficiency=_efficiency(record.efficiency, found),
        ablations=ablations.shown(record.ablations) if record.ablations else [],
        tactics=tactics.shown(record.tactics) if record.tactics else [],
        accelerator=_accelerator(record),
        clips=_clips(record.clips),
        cells=_cells(found) + _cells(battles, scale=100),
        missing=_missing(table.cells(), found) + _missing(smax.cells(), battles),
        runs=own,
        run_curves={run.folder: _run_curve(run) for run in own if run.curve},
        origins=_origins(record, own),
    )


def _scores(found) -> list[dict[str, Any]]:
    """Figures of the whole: interquartile means, profiles, and who beats whom."""
    if not found.lines:
        return []
    shown = []
    normal = {m: s for m in CONTINUOUS if len(s := found.normalised(m)) == len(TWINS)}
    if normal:
        middle = [_dot(method, scores) for method, scores in normal.items()]
        note = "Interquartile mean of normalised scores, all twelve sets; lines: 95 % intervals over seeds."
        shown.append({"svg": figures.dots(middle, "normalised score"), "note": note, "dots": middle})
    for methods, who in ((MAIN, "the main methods"), (BESIDE, "the others beside VGM²P")):
        scores = {m: normal[m] for m in methods if m in normal}
        if scores:
            note = (
                f"Performance profile of {who}, all twelve sets: the share of seeds whose normalised score "
                "is above a value."
            )
            shown.append({"svg": figures.profiles(scores), "note": note, "dots": []})
    beaten = [Dot(m, *found.improvement(m)) for m in CONTINUOUS if m != "vgm2p"]
    beaten = [dot for dot in beaten if not np.isnan(dot.value)]
    if beaten:
        note = (
            "How likely a seed of VGM²P beats one of the method's, averaged over the sets that both have run."
        )
        svg = figures.dots(beaten, "P(vgm2p is better)", middle=0.5)
        shown.append({"svg": svg, "note": note, "dots": beaten})
    return shown


def _dot(name, scores) -> Dot:
    return Dot(name, float(interquartile_mean(scores)), *stratified_interval(interquartile_mean, scores))


def _tables(found) -> list[dict[str, Any]]:
    if not found.lines:
        return []
    parts = (
        ("The main methods on all twelve sets", MAIN),
        ("The others, beside VGM²P", BESIDE),
    )
    return [
        _table(title, methods, [_row(found, name, methods) for name in TWINS]) for title, methods in parts
    ]


def _table(title, methods, rows) -> dict[str, Any]:
    texts = [[cell["text"] for cell in row["cells"]] for row in rows]
    return {"title": explained(title, texts), "methods": list(methods), "rows": rows}


def _battles(found) -> list[dict[str, Any]]:
    """Battles won, in percent, where any method has run; which methods' interquartile mean is what."""
    if not found.lines:
        return []
    names, methods = [name for name in BATTLES if found.data(name)], list(smax.METHODS)
    rows = [_row(found, name, methods, scale=100) for name in names]
    return [_table("Battles won, in percent", methods, rows)]


def _missing(cells, found) -> list[Any]:
    """What of a grid that has begun is not on record."""
    return [cell for cell in cells if found.lines and (cell.experiment.task, cell.name) not in found.lines]


def _row(found, name, methods, scale=1) -> dict[str, Any]:
    """One set: every method's mean and interval; which is best, and whose interval reaches the best's."""
    seeds = {m: scale * found.seeds(name, m) for m in methods}
    means = {m: float(s.mean()) for m, s in seeds.items() if len(s)}
    best = max(means, key=means.__getitem__, default=None)
    floor = interval(seeds[best])[0] if best else np.nan
    cells = [
        {
            "method": m,
            "mean": means.get(m),
            "text": found.text(name, m, scale=scale),
            "best": m == best,
            "level": bool(len(s)) and m != best and interval(s)[1] >= floor,
        }
        for m, s in seeds.items()
    ]
    return {"set": short(name), "data": _data(found.data(name)), "cells": cells} | (
        {"published": published(name)} if task(name).published else {}
    )


def _data(line) -> tuple[float, str] | None:
    """(what sorts, what is shown) of a set's data: returns, or battles won in percent."""
    if line is None:
        return None
    if "data_win_rate" in line:
        return line["data_win_rate"], f"{100 * line['data_win_rate']:.0f}"
    return line["data_mean"], f"{line['data_mean']:.0f} ± {line['data_std']:.0f}"


def _curves(found) -> list[dict[str, Any]]:
    """A small figure per set: the main methods that have run on it."""
    shown = []
    for name in TWINS:
        curves = {m: curve_of(found.lines[name, m]) for m in MAIN if (name, m) in found.lines}
        if curves:
            svg = figures.curves(curves, found.data(name)["data_mean"])
            shown.append({"set": short(name), "svg": svg, "methods": list(curves)})
    return shown


def _run_curve(run) -> str:
    return figures.curves({run.algorithm: run.curve}, run.data_mean)


def _sweeps(lines) -> list[dict[str, Any]]:
    """A figure per coefficient that has been swept, robots' before battles'."""
    swept = [
        (where, sweep, scores)
        for where, sweeps in sensitivity.SWEEPS.items()
        for sweep in sweeps
        if (scores := sensitivity.sweep_scores(lines, sweep))
    ]
    return [
        {
            "name": f"{sweep.method}, {sweep.coefficient}, {where}",
            "told": sensitivity.at_each(sweep, scores),
            "ratio": sensitivity.ratio(scores),
            "svg": figures.sweep(*sweep.scale, np.array([seeds.mean(-1) for seeds in scores]).T),
        }
        for where, sweep, scores in swept
    ]


def _efficiency(costs, found) -> dict[str, Any]:
    if not costs:
        return {}
    methods = costs["methods"]
    update = {name: 1e3 * row["update"] for name, row in methods.items()}
    decision = {name: 1e6 * row["graph"] for name, row in methods.items()}
    agents = {n: [1e3 * x["update"] for x in rows] for n, rows in costs["agents"].items()}
    batches = {n: [1e3 * x for x in rows] for n, rows in costs["batches"].items()}
    notes = (
        (figures.costs(update, "ms per update"), "Training: milliseconds per update, same network sizes."),
        (
            figures.costs(decision, "µs per decision"),
            "Acting: microseconds per decision of one agent's exported graph.",
        ),
        (
            figures.growth(efficiency.SIZES, agents, "agents", "ms per update"),
            "Training as the number of agents grows.",
        ),
        (
            figures.growth(efficiency.BATCHES, batches, "batch", "ms per update"),
            "Training as the batch grows.",
        ),
    )
    tables = [("Robots", _costs(methods)), ("Battles", _costs(costs["battles"]))]
    told = {"figures": notes, "tables": tables, "device": costs["device"], "methods": list(costs["agents"])}
    return told | {"wall": efficiency.seconds_to_good(found, methods)}


def _accelerator(record) -> list[Words]:
    """What devices do in a second, and what networks of the papers' width return."""
    told = [devices.shown(record.devices)] if record.devices else []
    return told + ([wide.shown(record.wide, record.table)] if record.wide else [])


def _costs(methods) -> list[dict[str, Any]]:
    """What every method costs, and as a multiple of VGM²P's."""
    base, kinds = methods["vgm2p"], ("update", "graph", "one", "many")
    return [
        {"method": name, **row, "times": {kind: row[kind] / base[kind] for kind in kinds}}
        for name, row in methods.items()
    ]


def _clips(clips: dict[str, bytes]) -> list[tuple[str, str]]:
    """(set, the film as a data URL)."""
    return [(n, "data:video/mp4;base64," + base64.b64encode(film).decode()) for n, film in clips.items()]


def _cells(found, scale=1) -> list[dict[str, Any]]:
    """Where each number of the tables comes from."""
    return [
        {
            "set": short(name),
            "method": method,
            "command": command(experiment_from(lines[0]["experiment"])),
            "seeds": ", ".join(f"{scale * found.score(line['returns']):.0f}" for line in lines),
            "seconds": np.mean([line["seconds"] for line in lines]),
        }
        for (name, method), lines in found.lines.items()
    ]


def _origins(record, own) -> list[tuple[str, str, int]]:
    """(device, versions in words, how many training seeds or runs) of everything on the page."""
    lines = [*record.table, *record.sensitivity, *record.ablations, *record.smax, *record.tactics]
    lines += [*record.wide, *({"device": name} | its for name, its in record.devices.items())]
    lines += [record.efficiency] if record.efficiency else []
    told = [(line["device"], line["versions"]) for line in lines]
    told += [(run.device, run.versions) for run in own if run.versions]
    texts = [(device, ", ".join(f"{k} {v}" for k, v in versions.items())) for device, versions in told]
    return [(*text, texts.count(text)) for text in dict.fromkeys(texts)]
