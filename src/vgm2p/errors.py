"""The one exception that a person's input can cause; its message says what is wrong and how to mend it."""

import difflib
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

MOST = 12  # names that a message lists


class InputError(ValueError):
    """Bad input: names the file or field, the value, and the way to mend it. The CLI prints no traceback."""


def check_positive(settings: Any, *names: str) -> None:
    """InputError for one of these fields of `settings` that is not above 0."""
    for name in names:
        if not getattr(settings, name) > 0:
            raise InputError(f"{name} {getattr(settings, name)} must be above 0")


def check_not_negative(settings: Any, *names: str) -> None:
    """InputError for one of these fields of `settings` that is below 0."""
    for name in names:
        if not getattr(settings, name) >= 0:
            raise InputError(f"{name} {getattr(settings, name)} must be at least 0")


def check_fraction(settings: Any, *names: str) -> None:
    """InputError for one of these fields of `settings` that is not above 0 and below 1."""
    for name in names:
        if not 0 < getattr(settings, name) < 1:
            raise InputError(f"{name} {getattr(settings, name)} must be above 0 and below 1")


def check_share(settings: Any, *names: str) -> None:
    """InputError for one of these fields of `settings` that is not above 0 and at most 1."""
    for name in names:
        if not 0 < getattr(settings, name) <= 1:
            raise InputError(f"{name} {getattr(settings, name)} must be above 0 and at most 1")


def check_words(settings: Any) -> None:
    """InputError for a field of the dataclass `settings` that takes one of some words, and has another."""
    for name, hint in get_type_hints(type(settings)).items():
        if get_origin(hint) is Literal and getattr(settings, name) not in get_args(hint):
            raise unknown(name, str(getattr(settings, name)), get_args(hint))


def needs(what: str, extra: str) -> InputError:
    """An error for what the package can do only with one of its extras installed."""
    return InputError(f'{what} needs the extra {extra!r}: pip install ".[{extra}]" in a clone of vgm2p')


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """An error for a name that is not in a table, with the nearest ones that are."""
    known = list(known)
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    more = f" and {len(known) - MOST} more" if len(known) > MOST else ""
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known[:MOST])}{more}"
    return InputError(f"unknown {kind} {name!r}: {hint}")
