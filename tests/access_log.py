"""An access log of the shape that a real web site's has, made the same every time: combined format,
10,000 requests, 1,370 paths with a Zipf tail, and the odd things that browsers and bots send.
"""

from __future__ import annotations

import random
from itertools import chain, repeat

REQUESTS = 10_000
PATHS = 1_370

ODD_PATHS = (  # each needs care somewhere: in a decoder, a page name, a key, a log reader
    "/",
    "//favicon.ico",
    "/scripts//%22file://$file/%22",
    "/blog/",
    "/blog/tags/open%20source",
    "/blog/tags/%20barcamp",
    "/blog/tags/caf%C3%A9",
    "/blog/geekery%E2%80%A6",
    "/files/tool/tool-%25",
    "/projects/tool%3E",
    "/projects/tool/",
    "/projects/tool/+++++Result:+chosen+nickname+%22somebody%22;sent;",
    "/presentations/%E8%F1%EF%EE%EB%FC",  # not UTF-8
    "/presentations/%094",  # a tab
    "/presentations/font.ttf)%20format(%22truetype%22",
    "/misc/..%2f..%2fetc%2fpasswd",
)
QUERIES = ("?flav=rss20", "?flav=atom", "?page=2&sort=%20", "?", "?a=/b//c")
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:24.0) Gecko/20140205 Firefox/24.0",
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
    "Tiny Tiny RSS/1.11 (http://tt-rss.org/)",
    "-",
)
_SEED = 2015


def paths_with_counts() -> list[tuple[str, int]]:
    """Every path without its query string, and how many requests name it; the most frequent first."""
    kinds = ("images", "blog", "articles", "files", "projects")
    plain = [f"/{kinds[n % 5]}/{n // 5}/page-{n}.html" for n in range(PATHS - len(ODD_PATHS))]
    # the odd ones sit in the head, the middle and the tail alike
    paths = plain[:]
    for index, odd in enumerate(ODD_PATHS):
        paths.insert(1 + index * index * 6, odd)
    counts = [max(1, int(1_870 / (rank + 2) ** 1.05)) for rank in range(PATHS)]
    counts[0] += REQUESTS - sum(counts)
    return list(zip(paths, counts, strict=True))


def lines() -> list[bytes]:
    """The log's lines, each with its line feed; one of them lacks the end of its agent."""
    draw = random.Random(_SEED)
    requests = list(chain.from_iterable(repeat(path, count) for path, count in paths_with_counts()))
    draw.shuffle(requests)
    return [_line(number, path, draw) for number, path in enumerate(requests)]


def _line(number: int, path: str, draw: random.Random) -> bytes:
    method = "GET"
    if number % 240 == 7:
        method = "HEAD"
    elif number % 2_000 == 11:
        method = "POST"
    elif number == 4_711:
        method = "OPTIONS"
    query = draw.choice(QUERIES) if draw.random() < 0.126 else ""
    status = draw.choices((200, 304, 404, 301, 206, 500), (913, 44, 21, 16, 5, 1))[0]
    size = "-" if status == 304 else str(draw.randrange(200, 200_000))
    client = f"192.0.2.{draw.randrange(1, 255)}"
    day, second = 17 + number // 2_500, number % 2_500
    when = f"{day}/May/2015:{second // 105:02}:{second // 60 % 60:02}:{second % 60:02} +0000"
    referer = "-" if draw.random() < 0.5 else "http://www.example.com" + draw.choice(ODD_PATHS)
    line = (
        f'{client} - - [{when}] "{method} {path}{query} HTTP/1.1" {status} {size} "{referer}" "{draw.choice(AGENTS)}"'
    )
    if number == 8_898:
        line = line[: line.rindex('"')]
    return line.encode() + b"\n"
