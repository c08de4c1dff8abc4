"""Tables whose cells are words: in Markdown for the documents, and as they are for the page."""

from typing import NamedTuple


class Words(NamedTuple):
    """A table with its caption; the first columns say what a row is."""

    caption: str
    heads: tuple[str, ...]
    rows: list[tuple[str, ...]]

    def markdown(self) -> str:
        """The caption, and the table."""
        lines = [self.heads, ("---",) * len(self.heads), *self.rows]
        return f"{self.caption}:\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def short(name: str) -> str:
    """A set's name without its suite."""
    return name.partition("/")[2]
