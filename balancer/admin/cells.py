"""What the page's tables and cells are made of: text escaped, numbers as people read them. Pure.

Every text goes through `_text`, which escapes it; only what is made here is Html.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Final

from balancer.measures.stats import Pause, Picture, no_pause


class Html(str):
    """Made here, of escaped parts."""

    __slots__ = ()


Cell = str | int | float

NOTHING: Final = Html('<span class="none">&ndash;</span>')


def table(
    title: str,
    told: str,
    heads: Mapping[str, Sequence[str]],
    lines: Iterable[Sequence[Cell]],
    *,
    kind: str = "",
    pause: Pause = no_pause,
) -> str:
    """A table under its title; `heads` are the columns' by the group that they are in."""
    opening = f'<section class="{kind}"><h2>{escape(title)}</h2>' + (f"<p>{escape(told)}</p>" if told else "")
    columns = [(name, group and number == 0) for group, names in heads.items() for number, name in enumerate(names)]
    classes = [' class="first"' if is_first else "" for _, is_first in columns]
    groups = "".join(
        f'<th scope="colgroup" colspan="{len(names)}">{escape(group)}</th>' for group, names in heads.items()
    )
    rows = [f'<tr class="groups">{groups}</tr>'] if len(heads) > 1 else []
    named = (f'<th scope="col"{kind}>{escape(name)}</th>' for kind, (name, _) in zip(classes, columns, strict=True))
    rows.append(f"<tr>{''.join(named)}</tr></thead><tbody>")
    heads_only = len(rows)
    for line in lines:
        cells = (f"<td{kind}>{_text(cell)}</td>" for kind, cell in zip(classes, line, strict=True))
        rows.append(f"<tr>{''.join(cells)}</tr>")
        pause()
    if len(rows) == heads_only:
        return f"{opening}<p>none now</p></section>"
    return f"{opening}<div><table><thead>{''.join(rows)}</tbody></table></div></section>"


def _text(cell: Cell) -> str:
    if isinstance(cell, Html):
        return cell
    return count(cell) if isinstance(cell, int) else escape(str(cell))


def named(name: str, address: str = "") -> Html:
    """A name, and where it is when that says more."""
    beside = f"<small>{escape(address)}</small>" if address and address != name else ""
    return Html(f"<b>{escape(name)}</b>{beside}")


def pill(status: str, text: str = "") -> Html:
    """A status in its colour. "UP 1/2" isn't well: some worker doesn't see it so."""
    kind = {"UP": "good", "DOWN": "bad"}.get(status, "warn")
    return Html(f'<span class="pill {kind}">{escape(text or status)}</span>')


def faults(number: int, told: str = "") -> Html:
    """A number that should be 0."""
    title = f' title="{escape(told)}"' if told else ""
    return Html(f'<span class="{"fault" if number else "none"}"{title}>{count(number)}</span>')


def answers(classes: dict[str, int]) -> Html:
    """Answers by class: a bar, and the numbers behind it."""
    everything = sum(classes.values())
    if not everything:
        return NOTHING
    bars = "".join(
        f'<i class="c{escape(name)}" style="width:{number / everything:.1%}"></i>'
        for name, number in classes.items()
        if number
    )
    return Html(f'<span class="bar" title="{escape(spelled(classes))}">{bars}</span>')


def checked(check: Picture) -> Html:
    """How the last check ended, in small letters."""
    if not check["text"]:
        return Html("")
    text = f"{check['text']}, {in_ms(check['s'])} ms"
    return Html(f'<small class="{"ok" if check["ok"] else "fault"}">{escape(text)}</small>')


def spelled(counts: dict[str, int]) -> str:
    """The counts that aren't 0, in words."""
    return ", ".join(f"{name}: {count(number)}" for name, number in counts.items() if number)


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,}".replace(",", "\u202f")  # a narrow space that doesn't break


def size(number: float) -> str:
    """Bytes, as people read them."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def age(seconds: float) -> str:
    """A time, in its two largest units."""
    whole = int(seconds)
    for unit, length, smaller, smaller_length in (("d", 86_400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if whole >= length:
            return f"{whole // length}{unit} {whole % length // smaller_length}{smaller}"
    return f"{whole}s"


def in_ms(seconds: float) -> str:
    """Milliseconds, with a digit behind the point where that matters."""
    milliseconds = seconds * 1000
    return f"{milliseconds:.1f}" if milliseconds < 10 else f"{milliseconds:.0f}"
