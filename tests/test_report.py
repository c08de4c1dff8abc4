"""The page: it shows what records and runs hold, in one file, and works in a real browser."""

import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from vgm2p.algorithms import BC, VGM2P, Fit
from vgm2p.claims import ablations, aims, efficiency, sensitivity, smax, table
from vgm2p.claims.grid import label
from vgm2p.claims.table import Results
from vgm2p.cli import main, parse
from vgm2p.command import command
from vgm2p.flows import MeanFlow
from vgm2p.report import figures
from vgm2p.runs import Experiment, experiment_fields, run
from vgm2p.tasks import task
from vgm2p.values import LEARNERS

ROOT = Path(__file__).parent.parent


def line(cell, seed, score) -> dict:
    """A line of a record, as a grid would write it."""
    return {
        "task": cell.experiment.task,
        "algorithm": cell.name.split("-")[0],
        "name": cell.name,
        "seed": seed,
        "fields": {},
        "experiment": experiment_fields(cell.experiment),
        "updates": cell.experiment.updates,
        "returns": [score - 10, score + 10],
        "curve": [[k * 2000, score * k / 5] for k in range(1, 6)],
        "returns_with": {label(options): [score - 5 * i] for i, options in enumerate(cell.options)},
        "data_mean": 700.0,
        "data_std": 120.0,
        "data_good": 1000.0,
        "data_sha256": "0" * 64,
        "seconds": 60.0,
        "versions": {"python": "3.11", "jax": "0.10"},
        "device": "cpu (1 cpu)",
    }


def lines(cells) -> list[dict]:
    """Two seeds of every cell, VGM²P in front of all others."""
    rng = np.random.default_rng(0)
    return [
        line(cell, seed, 900 + 200 * (cell.name == "vgm2p") + 50 * rng.random())
        for cell in cells
        for seed in (0, 1)
    ]


def battle_lines() -> list[dict]:
    """VGM²P wins three battles of four, all others two; the data's teams 40 %."""
    won = {"win_rate": 0.5, "data_win_rate": 0.4}
    return [
        x | won | {"returns": [2.0, 2.0, 2.0 if x["name"] == "vgm2p" else 0.5, 0.5], "returns_with": {}}
        for x in lines(smax.cells())
    ]


def write_lines(path, content):
    path.write_text("".join(json.dumps(x) + "\n" for x in content))


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> Path:
    """A results folder in which every claim has run, but for one cell."""
    folder = tmp_path_factory.mktemp("results")
    write_lines(folder / "table.jsonl", lines(table.cells()[:-1]))
    write_lines(folder / "sensitivity.jsonl", lines(sensitivity.cells()))
    write_lines(folder / "ablations.jsonl", lines(ablations.cells()))
    write_lines(folder / "smax.jsonl", battle_lines())
    cost = {"update": 0.002, "peak": 5e8, "graph": 3e-5, "one": 1e-4, "many": 0.01, "passes": 1}
    grown = {
        "agents": {name: [{"update": 0.001, "one": 0.001}] * 4 for name in efficiency.GROWING},
        "batches": {name: [0.001, 0.002, 0.004] for name in efficiency.GROWING},
    }
    methods = dict.fromkeys(efficiency.METHODS, cost) | {"bc": cost | {"update": 0.001}}
    battles = dict.fromkeys(efficiency.BATTLE_METHODS, cost)
    record = {"methods": methods, "battles": battles, **grown, "versions": {}, "device": "cpu (1 cpu)"}
    (folder / "efficiency.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(scope="module")
def own_runs(hopper, tmp_path_factory) -> Path:
    """A run that ended, one that was left, and one that failed."""
    folder = tmp_path_factory.mktemp("runs")
    experiment = Experiment(
        hopper, BC(fit=Fit(hidden=(8,))), updates=4, batch=4, seeds=(0,), eval_every=2, eval_episodes=1
    )
    run(experiment, folder / "ended")
    shutil.copytree(folder / "ended", folder / "left")
    (folder / "left/result.json").unlink()
    shutil.copytree(folder / "left", folder / "failed")
    (folder / "failed/failure.json").write_text(json.dumps({"error": "loss/policy is nan", "step": 4}))
    return folder


@pytest.fixture(scope="module")
def page(results, own_runs, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    main(["report", str(own_runs), "--results", str(results), "-o", str(path)])
    return path


ALGORITHMS = [
    VGM2P(values=learner(), flow=MeanFlow(to_data=False, power=0.5), guidance_max=None)
    for learner in LEARNERS
]
CELLS = {
    cell.experiment.algorithm: cell.experiment
    for cell in (*table.cells(), *sensitivity.cells(), *ablations.cells())
}
EXPERIMENTS = [*CELLS.values()] + [
    Experiment("twin/3hopper-medium", algorithm, seeds=(4,), regress="clipped") for algorithm in ALGORITHMS
]


def test_the_command_of_an_experiment_asks_for_that_experiment():
    for experiment in EXPERIMENTS:
        asked = parse(shlex.split(command(experiment))[1:])
        assert asked.experiment == experiment, command(experiment)


def test_a_command_names_only_what_differs_from_the_defaults():
    assert command(Experiment("twin/2ant-expert", BC())) == "vgm2p train twin/2ant-expert bc"


def test_the_page_is_one_file_without_a_network(page):
    html = page.read_text()
    links = re.findall(r'(?:src|href)="([^"#]+)', html)
    assert all(link.startswith("data:") for link in links)
    assert "@import" not in html
    assert "url(http" not in html


def test_the_same_content_gives_the_same_page(page, results, own_runs, tmp_path):
    main(["report", str(own_runs), "--results", str(results), "-o", str(tmp_path / "again.html")])
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_every_number_leads_to_the_command_that_makes_it(page):
    html = page.read_text()
    targets = set(re.findall(r'id="([^"]+)"', html))
    for link in re.findall(r'href="#([^"]+)"', html):
        assert link in targets, link
    cell = table.cells()[0]
    assert f"<code>{command(cell.experiment)}</code>" in html


def test_no_id_stands_twice_but_equal_parts_of_figures(page):
    html = page.read_text()
    ids = re.findall(r' id="([^"]+)"', re.sub(r"<svg.*?</svg>", "", html, flags=re.S))
    assert len(ids) == len(set(ids))
    parts: dict[str, str] = {}
    for part, name in re.findall(r'(<(?:path|clipPath) id="([^"]+)".*?(?:/>|</clipPath>))', html, flags=re.S):
        assert parts.setdefault(name, part) == part


def test_runs_that_failed_or_were_left_are_listed(page):
    html = page.read_text()
    assert "1 of 3 runs have finished" in html
    assert "failed: loss/policy is nan" in html
    assert "unfinished: 4 of 4 updates" in html


def test_cells_that_have_not_run_are_listed(page):
    last = table.cells()[-1]
    assert f"<li>{last.experiment.task.removeprefix('twin/')} {last.name}</li>" in page.read_text()


def test_every_claim_on_record_has_its_section(page):
    ids = set(re.findall(r'<section id="([^"]+)"', page.read_text()))
    assert ids >= {
        "aims",
        "scores",
        "tables",
        "battles",
        "curves",
        "sensitivity",
        "efficiency",
        "ablations",
        "commands",
    }


def test_a_report_of_nothing_says_what_is_missing(tmp_path, capsys):
    for args, told in (
        (["--results", str(tmp_path)], "no table.jsonl"),
        ([str(tmp_path)], "experiment.json"),
    ):
        with pytest.raises(SystemExit):
            main(["report", *args, "-o", str(tmp_path / "report.html")])
        assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize(("values", "bars"), [([10, 1000], 40), ([3, 4, 4, 6], 4)])
def test_a_histograms_bars_stand_where_its_values_are(values, bars, monkeypatch):
    """Two far numbers are not one bar from the first to the second."""
    drawn = []
    monkeypatch.setattr(figures, "_svg", lambda figure: drawn.append(figure.axes[0].patches) or "")
    figures.histogram(np.array(values), "length")
    (patches,) = drawn
    assert len(patches) == bars
    for value in values:
        (bar,) = (p for p in patches if p.get_x() <= value <= p.get_x() + p.get_width() and p.get_height())
        assert bar.get_height() == values.count(value)


def test_methods_are_told_apart_without_colour():
    samples = [re.sub("#[0-9a-f]{6}|currentColor", "", figures.sample(name)) for name in figures.STYLES]
    assert len(set(samples)) == len(samples)
    dots = {(style.color, style.marker) for style in figures.STYLES.values()}  # drawn without a line
    assert len(dots) == len(samples)


def test_a_run_that_cannot_be_read_is_listed_among_the_others(own_runs, tmp_path):
    shutil.copytree(own_runs / "ended", tmp_path / "old")
    record = json.loads((tmp_path / "old/experiment.json").read_text())
    record["algorithm"]["gone"] = 1
    (tmp_path / "old/experiment.json").write_text(json.dumps(record))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/experiment.json").write_text("{")
    shutil.copytree(own_runs / "ended", tmp_path / "half")
    (tmp_path / "half/result.json").write_text('{"mean": 1.0}')
    main(["report", str(own_runs), str(tmp_path), "-o", str(tmp_path / "report.html")])
    page = (tmp_path / "report.html").read_text()
    assert "1 of 6 runs have finished" in page
    assert "its files are damaged, or of another version" in page
    assert "old/experiment.json: the run was made with another version of vgm2p" in page
    assert f"can&#39;t be read: {tmp_path / 'broken'}/experiment.json is not valid JSON" in page


def test_a_folder_named_twice_is_shown_once(own_runs, tmp_path):
    main(["report", str(own_runs), str(own_runs / "left"), "-o", str(tmp_path / "report.html")])
    assert "1 of 3 runs have finished" in (tmp_path / "report.html").read_text()


def test_aims_are_judged_by_the_numbers(results):
    found = Results([json.loads(x) for x in (results / "table.jsonl").read_text().splitlines()])
    best, suited, each, published, one_step, *many = aims.of_table(found)
    assert best.holds is suited.holds is each.holds is None  # one cell is missing
    assert not published.holds
    assert one_step.holds
    assert [aim.holds for aim in many] == [True] * 3  # at each scale of noise
    ours = [x for x in lines(table.cells()) if x["algorithm"] == "vgm2p"]
    poor = {"returns": [0.0], "returns_with": {asked: [1.0] for asked in ours[0]["returns_with"]}}
    others = [x for x in lines(table.cells()) if x["algorithm"] != "vgm2p"]
    behind = [x | poor for x in ours]
    assert [aim.holds for aim in aims.of_table(Results(behind + others))] == [False] * 8
    fewer = [x for x in others if (x["task"], x["algorithm"]) != ("twin/2ant-expert", "omiga")]
    refuted = aims.of_table(Results(behind + fewer))
    assert [aim.holds for aim in refuted] == [False] * 8  # one rival is enough
    assert "; on 1 set some methods have not run" in refuted[2].told
    fewer = [x for x in fewer if x["algorithm"] != "cql"]
    assert "; on 12 sets some methods have not run" in aims.of_table(Results(behind + fewer))[2].told
    whole = aims.of_table(Results(lines(table.cells())))
    assert [aim.holds for aim in whole] == [*[True] * 3, False, *[True] * 4]


def test_no_aim_holds_before_its_rivals_have_run():
    alone = [x for x in lines(table.cells()) if x["algorithm"] == "vgm2p"]
    best, suited, each, _, _, *many = aims.of_table(Results(alone))
    assert [aim.holds for aim in (best, suited, each, *many)] == [None] * 6
    assert all(aim.holds is None for aim in aims.judged([], [], {}, []))


def test_the_aim_of_battles_is_about_those_won():
    content = battle_lines()
    aim = aims.of_battles(smax.results(content))
    assert aim.holds
    assert aim.told.startswith("vgm2p 0.75 [0.75, 0.75], bc 0.50 [0.50, 0.50]")
    assert aims.of_battles(smax.results(content[2:])).holds is None


def test_battles_are_told_by_how_many_were_won(tmp_path):
    write_lines(tmp_path / "smax.jsonl", battle_lines())
    text = smax.tables(tmp_path / "smax.jsonl")
    assert "| 3m-good | 40 | 75 [75, 75] | 50 [50, 50] |" in text
    assert "| vgm2p | 0.75 [0.75, 0.75] |  |" in text
    assert "| bc | 0.50 [0.50, 0.50] | 1.00 [1.00, 1.00] |" in text


def test_the_sensitivity_aims_ask_for_every_swept_coefficient_of_robots_and_of_battles():
    content = lines(sensitivity.cells())
    holds = lambda found: [aim.holds for aim in aims.of_sensitivity(found)]  # noqa: E731
    assert holds(content) == [True, True]
    assert holds([x for x in content if "habit" not in x["name"]]) == [None, True]
    worse = [x | {"returns": [0.0]} if x["name"] == "vgm2p-quantile-0.5" else x for x in content]
    assert holds(worse) == [False, False]
    assert holds([x for x in worse if "habit" not in x["name"]]) == [False, False]  # one is enough


def test_efficiency_aims_are_ratios_within_one_record():
    cost = {"update": 0.003, "graph": 3e-5, "one": 1e-4, "many": 0.01}
    methods = dict.fromkeys(efficiency.METHODS, cost)
    methods["flow_bc"] = cost | {"update": 0.001}
    methods["diffusion_bc, 15 steps"] = cost | {"graph": 4e-4}
    methods["bc"] = cost | {"graph": 2e-5}
    assert [aim.holds for aim in aims.of_efficiency(methods)] == [False, True, True, False, False]


def test_scores_are_normalised_before_they_are_added_up(results):
    cell = table.cells()[0]
    zero = task(cell.experiment.task).random_return
    found = Results([line(cell, 0, zero), line(cell, 1, 1000.0)])
    assert found.normalised(cell.name)[0].tolist() == [0.0, 1.0]


@pytest.fixture(scope="module")
def browser():
    """Debian's chromium, driven by Playwright."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path, "install it: apt-get install chromium"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def opened(browser, path, width=1440, **context):
    """The page in a window of that width, and what its console said."""
    tab = browser.new_context(viewport={"width": width, "height": 900}, **context).new_page()
    said: list[str] = []
    tab.on("console", lambda message: said.append(message.text))
    tab.on("pageerror", lambda error: said.append(str(error)))
    tab.on("request", lambda request: said.append(request.url) if request.url.startswith("http") else None)
    tab.goto(path.as_uri())
    return tab, said


OVERFLOWS = """
() => [...document.querySelectorAll("body *")].filter((e) =>
  e.clientWidth > 0 && !e.closest("svg, .scroll") && e.scrollWidth > e.clientWidth + 1
).map((e) => `${e.tagName} ${e.className}: ${e.textContent.slice(0, 60)}`)
"""


@pytest.mark.browser
@pytest.mark.parametrize("width", [360, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_opens_without_a_complaint_and_no_text_overflows(browser, page, width, scheme):
    tab, said = opened(browser, page, width, color_scheme=scheme)
    assert said == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate(OVERFLOWS) == []


@pytest.mark.browser
def test_on_a_phone_the_first_column_leaves_room_for_the_others(browser, page):
    """It stays in view while the rest scrolls beneath it."""
    tab, _ = opened(browser, page, 360)
    widths = tab.locator(".scroll:visible tbody th:first-child").evaluate_all(
        "heads => heads.map(h => h.offsetWidth / h.closest('.scroll').clientWidth)"
    )
    assert max(widths) < 0.6


@pytest.mark.browser
def test_light_and_dark_differ_and_are_readable(browser, page):
    colors = {}
    for scheme in ("light", "dark"):
        tab, _ = opened(browser, page, color_scheme=scheme)
        style = "getComputedStyle(document.body)"
        colors[scheme] = [tab.evaluate(f"{style}.{name}") for name in ("backgroundColor", "color")]
        paper, ink = (luminance(color) for color in colors[scheme])
        assert (max(paper, ink) + 0.05) / (min(paper, ink) + 0.05) > 7  # WCAG, level AAA
    assert colors["light"] != colors["dark"]


def luminance(color: str) -> float:
    """WCAG's relative luminance of "rgb(r, g, b)"."""
    channels = np.array([int(x) for x in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.browser
def test_a_column_head_sorts_its_table_both_ways_by_keyboard(browser, page):
    tab, _ = opened(browser, page)
    sorted_table = tab.locator("#tables table").first
    head = sorted_table.locator("thead th").nth(2)
    values = "cells => cells.map(c => Number(c.dataset.value))"
    for key, direction in (("Enter", "descending"), ("Space", "ascending")):
        head.locator("button").press(key)
        assert head.get_attribute("aria-sort") == direction
        found = sorted_table.locator("tbody tr td:nth-child(3)").evaluate_all(values)
        assert found == sorted(found, reverse=direction == "descending")


@pytest.mark.browser
def test_a_column_of_words_sorts_from_a_to_z_first(browser, page):
    tab, _ = opened(browser, page)
    sorted_table = tab.locator("#tables table").first
    head = sorted_table.locator("thead th").first
    for direction in ("ascending", "descending"):
        head.locator("button").click()
        assert head.get_attribute("aria-sort") == direction
        found = sorted_table.locator("tbody th").all_text_contents()
        assert found == sorted(found, reverse=direction == "descending")


@pytest.mark.browser
def test_a_number_takes_its_reader_to_its_command(browser, page):
    from playwright.sync_api import expect

    tab, _ = opened(browser, page)
    tab.locator("#tables td a").first.click()
    row = tab.locator("tr:target")
    assert row.count() == 1
    assert row.locator("code").inner_text().startswith("vgm2p train twin/")
    expect(row).to_be_in_viewport()


@pytest.mark.browser
def test_a_screen_reader_hears_headings_figures_and_tables(browser, page):
    tab, _ = opened(browser, page)
    assert tab.get_by_role("heading", level=1).count() == 1
    assert tab.get_by_role("main").count() == 1
    images = tab.get_by_role("img")
    assert images.count() > 10
    assert all(image.get_attribute("aria-label") for image in images.all())
    assert all(t.locator("caption").inner_text() for t in tab.locator("table:visible").all())
