"""Put the records' tables into the pages that show them, between their marks: python docs/tables.py"""

import re
from collections.abc import Callable
from pathlib import Path

from vgm2p.claims import ablations, aims, devices, efficiency, sensitivity, smax, table, tactics, wide
from vgm2p.report.content import records

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
RIVALS = sorted((ROOT / "docs/algorithms").glob("*.md"))
PAGES = (ROOT / "README.md", ROOT / "docs/results.md", ROOT / "docs/battles.md", *RIVALS)
BLOCKS: dict[str, Callable[[], str]] = {
    "headline": lambda: table.aggregates(table.Results(records(RESULTS).table)).markdown(),
    "aims": lambda: aims.markdown(_aims()),
    "smax": lambda: smax.tables(RESULTS / "smax.jsonl"),
    "tactics": lambda: tactics.tables(RESULTS / "tactics.jsonl"),
    "table": lambda: table.tables(RESULTS / "table.jsonl"),
    "sensitivity": lambda: sensitivity.tables(RESULTS / "sensitivity.jsonl"),
    "ablations": lambda: ablations.tables(RESULTS / "ablations.jsonl"),
    "devices": lambda: devices.tables(RESULTS / "devices.json"),
    "wide": lambda: wide.tables(RESULTS / "table-wide.jsonl", RESULTS / "table.jsonl"),
    "efficiency": lambda: efficiency.tables(RESULTS / "efficiency.json"),
}


def _aims() -> list[aims.Aim]:
    found = records(RESULTS)
    return aims.judged(found.table, found.sensitivity, found.efficiency, found.smax)


def returned(method: str) -> str:
    """What a method has scored, robots before battles."""
    robots, battles = table.Results(records(RESULTS).table), smax.results(records(RESULTS).smax)
    parts = (
        table.beside_ours(robots, method, "Mean return, at the default noise"),
        table.beside_ours(battles, method, "Battles won without noise, in percent", 100),
    )
    return "\n\n".join(part.markdown() for part in parts if part.rows)


def filled(path: Path) -> str:
    """The page with what the records say now between its marks; `returned`: of the method it is named by."""
    page, blocks = path.read_text(), BLOCKS | {"returned": lambda: returned(path.stem)}
    for name in re.findall(r"<!-- (\w+) -->", page):
        block = f"<!-- {name} -->\n{blocks[name]()}\n<!-- /{name} -->"
        page = re.sub(rf"<!-- {name} -->\n.*?<!-- /{name} -->", lambda _, b=block: b, page, flags=re.S)
    return page


if __name__ == "__main__":
    for path in PAGES:
        path.write_text(filled(path))
