"""Words by which people call columns and rows that are no data: labels, totals, roles in a list."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any

from pyrozoo.core.settings import suggestion

_IDS = (
    r"(.*[ _.-])?(id|key|uuid|guid)|"
    r"(user|item|movie|product|customer|patient|person|sample|case|shop|store|site|respondent)id"
)

IDS = re.compile(rf"{_IDS}|index|row[ _.]?(names?|labels?|number|id|no)?|names?|labels?|no\.|nr\.", re.I)
"""Names of columns that name rows, when all of their cells differ."""

LABELS = re.compile(
    rf"{IDS.pattern}|#|(.*[ _.-])?(no|nr|num|number|nummer)\.?|zeile|ligne|"
    r"obs|observation|case|record|sample|subject|respondent|participant|unnamed: 0|"
    r"__index_level_0__|x1?|\.\.\.1|", re.I)  # fmt: skip
"""The same, and names of columns that do when they hold text, or count the rows."""

UNNAMED = re.compile(r"(unnamed: 0|__index_level_0__|x1?|\.\.\.1|)", re.I)
"""What a first column without a name is called by pandas, R and readr."""

TOTAL = re.compile(r"\W*(grand )?(totals?|sum|summe|gesamt|overall|all|alle|insgesamt|somme|suma|totale)\W*", re.I)

MAYBE_TOTAL = "tot|sum|gesamt|all|somme"
"""What is somewhere in each of these."""

_TAIL = r"[ _.]?(id|ids|name|names|no|nr|number|code|key|index|idx)?s?"

ROLES = {
    "row": re.compile(
        rf"(row|user|reader|listener|customer|client|person|people|member|viewer|patient|document|doc|text|site|sample|plot|"
        rf"subject|respondent|reviewer|buyer|account|visitor|student|rater){_TAIL}", re.I),
    "column": re.compile(
        rf"(column|col|item|movie|film|book|product|article|song|track|artist|word|term|token|species|taxon|joke|anime|game|"
        rf"gene|sku|isbn|question|feature|object|business|restaurant){_TAIL}", re.I),
    "value": re.compile(
        r"(value|rating|ratings|score|scores|count|counts|plays?|play[ _.]?count|listens?|quantity|qty|amount|n|freq|"
        r"frequency|stars?|weight|clicks|views|purchases|abundance|times|hits|x|liked?|bought|implicit)", re.I),
    "time": re.compile(r"(time|timestamp|date|datetime|when|day|year|unixreviewtime|created([ _.]?at)?)", re.I),
}  # fmt: skip
"""Names of columns of a list -> what they say."""


def role_of(name: str) -> str | None:
    """Return what a column of a list says, by its name: row, column, value or time."""
    return next((role for role, words in ROLES.items() if words.fullmatch(apart(name))), None)


def apart(name: str) -> str:
    """Return a name with its words apart: ``userId`` is ``user_Id``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())


def bare(name: str) -> str:
    """Return a column's name in small letters and without its unit: ``Sales [EUR]`` is ``sales``."""
    name = name.strip()
    if name.endswith((")", "]", "}")) and (begins := re.search(r"[(\[{]", name)):
        name = name[: begins.start()]
    return name.strip().lower()


def place(asked: Any, names: Sequence[str]) -> int | None:
    """Return the place of a column that is asked for by its name, by its name without a unit, or by its place."""
    return places([asked], names)[0]


def places(asked: Iterable[Any], names: Sequence[str]) -> list[int | None]:
    """Return the places of columns that are asked for (see ``place``), None where there is no such column."""
    words = [str(each).strip() for each in asked]
    first = {name: len(names) - 1 - i for i, name in enumerate(reversed(names))}
    alike: dict[str, list[int]] = {}
    if not first.keys() >= {*words}:
        for i, name in enumerate(names):
            alike.setdefault(bare(name), []).append(i)

    def found(word: str) -> int | None:
        if word in first:
            return first[word]
        if len(its := alike.get(bare(word), [])) == 1:
            return its[0]
        if word.lstrip("-").isdecimal() and -len(names) <= int(word) < len(names):
            return int(word) % len(names)
        return None

    return [found(word) for word in words]


def no_column(asked: Any, names: Sequence[str], setting: str) -> str:
    """Return what is said of a column that is asked for and not there."""
    known = suggestion(str(asked), names[:MOST_NAMED]) + (
        f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    )
    return f"data.{setting}: there is no column {str(asked)!r}; {' '.join(known.split())}"


MOST_NAMED = 20
"""Names that one line lists."""


def listed(names: Sequence[Any]) -> str:
    """Return names in one line, the first ones of many."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(str(each) for each in names[:MOST_NAMED]) + more


def typed(names: Sequence[Any]) -> str:
    """Return a list as it is typed on the command line."""
    plain = [
        str(each) if re.fullmatch(r"[\w.\-+ ]*[\w.\-+]", str(each)) else "'" + str(each).replace("'", "\\'") + "'"
        for each in names
    ]
    return f"[{','.join(plain)}]"


def as_typed(name: str, value: Any) -> str:
    """Return a setting of data as it is typed in a shell: quoted where that would read it otherwise."""
    made = f"data.{name}={typed(list(value)) if isinstance(value, list | tuple | dict) else value}"
    if shlex.quote(made) == made:
        return made
    return shlex.quote(made) if re.search(r'["$`!]|\\(?!\')', made) else f'"{made}"'
