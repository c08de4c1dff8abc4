"""Pages from their templates: one environment for all, style and script inside."""

from importlib.resources import files
from typing import Any

from vgm2p.errors import needs


def fill(name: str, **content: Any) -> str:
    """The page `name` of this folder with its content; `css` and `js` are added.

    Raises InputError where Jinja is missing, and jinja2.UndefinedError for content that the page asks for in
    vain.
    """
    try:
        from jinja2 import Environment, StrictUndefined
    except ModuleNotFoundError as error:
        raise needs("a page", "report") from error
    room = files("vgm2p.report")
    html, css, js = (room.joinpath(x).read_text(encoding="utf-8") for x in (name, "page.css", "page.js"))
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(html).render(css=css, js=js, **content)
