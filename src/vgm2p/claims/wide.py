"""What wider networks and longer training change: the cells of the preset `wide` beside the table's own."""

from collections.abc import Sequence
from pathlib import Path

from vgm2p.algorithms import ALGORITHMS
from vgm2p.algorithms.algorithm import Fit
from vgm2p.claims.grid import read_record
from vgm2p.claims.presets import CPU, WIDE, Preset
from vgm2p.claims.table import NOISES, SCALES, STRENGTHS, TEN_JUMPS, Results, label
from vgm2p.claims.words import Words, short
from vgm2p.stats import mean_and_interval

ASKED = ("", label(NOISES[0]), *map(label, (*STRENGTHS, TEN_JUMPS)))  # of the same networks


def tables(record: Path, table: Path) -> str:
    """Markdown of both records' cells."""
    return shown(read_record(record), read_record(table)).markdown()


def shown(lines: Sequence[dict], table: Sequence[dict]) -> Words:
    """Mean return with each preset; of VGM²P also at other strengths and in ten jumps."""
    wide, narrow = Results(list(lines)), Results(list(table))
    rows = [
        (
            short(name),
            method,
            asked or _usual(method),
            *(_told(found, name, method, asked) for found in (narrow, wide)),
        )
        for name, method in wide.lines
        for asked in ASKED
        if len(wide.seeds(name, method, asked)) and (not asked or wide.lines[name, method][0]["returns_with"])
    ]
    return Words("Mean return", ("set", "method", "acting with", _named(CPU), _named(WIDE)), rows)


def _usual(method) -> str:
    """What a method acts with unless asked otherwise, such as "noise=0.5"; some have no noise."""
    return label((("noise", SCALES[""]),)) if "noise" in ALGORITHMS[method]().options else "no noise"


def _told(found, name, method, asked) -> str:
    return mean_and_interval(found.seeds(name, method, asked))


def _named(preset: Preset) -> str:
    """A preset in words, such as "10,000 updates of 64, 2 layers of 256, 3 seeds"."""
    hidden = preset.hidden or Fit.hidden
    widths = f"{len(hidden)} layers of {hidden[0]}"
    return f"{preset.updates:,} updates of {preset.batch}, {widths}, {len(preset.seeds)} seeds"
