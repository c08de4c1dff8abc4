"""`vgm2p claims` and `vgm2p report`: the numbers behind what we say, and the page that shows them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from vgm2p.cli.screen import out, progress_bar
from vgm2p.data.store import home, write_json
from vgm2p.errors import InputError
from vgm2p.tasks import tabled

MEASURED = ("efficiency", "devices")  # costs, not grids of runs
OTHER_DATA = """\
{count} cells in {record} are of other data than is here: another processor or version rolls out other bytes.
They run again on yours and take their place; to keep both, stop and name another file with --record."""


@dataclass
class Claims:
    """Run the grid behind a claim and print its tables; each method with the settings in `claims/`.

    table: every method on all twelve sets; a day of two cores, less with an accelerator.

    sensitivity: four coefficients of VGM²P and its rivals' own, over thirtyfold ranges; hours.

    ablations: choices of ours beside what else could have been chosen, on three sets and three of battles;
    hours.

    efficiency: what training and acting cost, every method in one run; leave the machine idle (half an hour).

    smax: eight methods on the fourteen sets of battles, by battles won; hours.

    tactics: labels and noise of the team or of each agent, on logs of several teams; two hours.

    devices: updates per second of the papers' networks on this device, put beside the others' (10 minutes).

    Stopped and started again, a grid goes on; what the record holds with today's settings is not run again.
    """

    claim: Positional[
        Literal["table", "sensitivity", "ablations", "efficiency", "smax", "tactics", "devices"]
    ]
    """Which claim."""
    preset: Literal["cpu", "wide", "paper"] = "cpu"
    """Of the table. cpu: networks and updates for two cores. wide: the papers' networks and batch for 20,000
    updates, a minute of an accelerator per cell. paper: for all of the papers' million."""
    tasks: tuple[str, ...] = ()
    """Run the cells of these tasks alone."""
    runs: Path | None = None
    """Folder of the runs; by default runs/<claim>."""
    record: Path | None = None
    """The record, one line per (task, method, seed); by default in results/."""
    jobs: int = 2
    """Cells trained side by side, each on one core."""
    table_only: bool = False
    """Print the tables of the record and train nothing."""
    marl_eval: Path | None = None
    """Also write the table's scores in marl-eval's JSON form, of the sets that all of its methods ran on."""

    def run(self) -> None:
        """Run the grid with a bar, then print the tables."""
        from vgm2p.claims import ablations, devices, efficiency, sensitivity, smax, table, tactics
        from vgm2p.claims.grid import read_record
        from vgm2p.claims.marl_eval import ENVIRONMENT, marl_eval

        if self.jobs < 1:
            raise InputError(f"jobs {self.jobs} must be at least 1")
        if self.tasks and self.claim in MEASURED:
            raise InputError(f"{self.claim} measures synthetic data: leave --tasks out")
        if self.tasks and self.table_only:
            raise InputError("--tasks chooses what runs, but --table-only runs nothing: leave one out")
        if self.claim != "table" and (self.preset != "cpu" or self.marl_eval):
            raise InputError(f"--preset and --marl-eval are for the table: leave them out of {self.claim}")
        name = self.claim if self.preset == "cpu" else f"{self.claim}-{self.preset}"
        record = self.record or Path(f"results/{name}.{'json' if self.claim in MEASURED else 'jsonl'}")
        modules = (table, sensitivity, ablations, efficiency, smax, tactics, devices)
        claim: Any = next(module for module in modules if module.__name__.endswith(self.claim))
        failures = [] if self.table_only else self._measure(claim, self.runs or Path("runs") / name, record)
        if not record.exists():
            raise InputError(f"there is no record {record}: run the claim without --table-only")
        print(claim.tables(record))
        if self.marl_eval:
            scores = marl_eval(table.Results(read_record(record)))
            write_json(self.marl_eval, scores)
            sets = len(scores[ENVIRONMENT])
            out.print(f"wrote {self.marl_eval}: the {sets} sets on which every method of {record} has run")
        if failures:
            raise InputError("these cells failed: " + "; ".join(failures))

    def _measure(self, claim, runs, record) -> list[str]:
        """Fill the record, with a bar; returns the cells that failed."""
        from vgm2p.claims import presets
        from vgm2p.claims.grid import of_other_data, of_tasks, run_grid

        with progress_bar() as bar:
            if self.claim in MEASURED:
                claim.measure(record, self._tick(bar, claim.PARTS))
                return []
            preset = {"cpu": presets.CPU, "wide": presets.WIDE, "paper": presets.PAPER}[self.preset]
            grid = claim.cells(preset) if self.claim == "table" else claim.cells()
            asked = of_tasks(grid, self.tasks)
            if parts := sorted({c.experiment.task for c in asked if tabled(c.experiment.task).has_part()}):
                raise InputError(
                    f"of {', '.join(parts)} there is a part only, such as a first experiment makes: delete "
                    f"it from {home()} and make it anew, or point VGM2P_DATA elsewhere"
                )
            if others := of_other_data(asked, record):
                bar.console.print(OTHER_DATA.format(count=len(others), record=record))
            return run_grid(grid, runs, record, self.jobs, self._tick(bar, len(asked)), self.tasks)

    @staticmethod
    def _tick(bar, total):
        job = bar.add_task("cells", total=total, note="")

        def tick(line: str) -> None:
            bar.advance(job)
            bar.console.print(line)

        return tick


@dataclass
class Report:
    """Write one self-contained page: the records of the claims, and any runs of yours.

    Example: vgm2p report runs/cheetah -o report.html
    """

    runs: Positional[tuple[Path, ...]] = ()
    """Folders of runs, or folders that hold some; those that failed or have not ended are listed too."""
    out: Annotated[Path, arg(aliases=("-o",))] = Path("report.html")
    """The page."""
    results: Path = Path("results")
    """Folder of the claims' records, films included; what it lacks is left out."""

    def run(self) -> None:
        """Read, draw and write."""
        from vgm2p.report.page import write_report

        write_report(list(self.runs), self.results, self.out)
        out.print(f"wrote {self.out}: {self.out.stat().st_size / 1e6:.1f} MB, one file that needs no network")
