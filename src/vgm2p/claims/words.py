"""Tables whose cells are words: in Markdown for the documents, and as they are for the page."""

from collections.abc import Sequence
from typing import NamedTuple


class Words(NamedTuple):
    """A table with its caption, if it needs one; the first columns say what a row is."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The caption, and the table."""
        lines = [self.heads, ("---",) * len(self.heads), *self.rows]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        return f"{self.caption}:\n\n{table}" if self.caption else table

    def folded(self) -> str:
        """The same, the table hidden until a reader opens its caption."""
        table = self._replace(caption="").markdown()
        return f"<details><summary>{self.caption}</summary>\n\n{table}\n\n</details>"


def short(name: str) -> str:
    """A set's name without its suite."""
    return name.partition("/")[2]
