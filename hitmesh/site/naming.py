"""Which page a URL is, by the rules of a configuration: several URLs of one page are one page. Pure.

In this order: capitals, an index file, a trailing slash, the query's parameters, the table of merged pages. What a table
says stands as it is: no other rule is applied to it.
"""

from __future__ import annotations

from typing import Final

from hitmesh.config import Pages
from hitmesh.errors import PageError
from hitmesh.protocol.pages import check_page, trim
from hitmesh.site.patterns import matches, names, site_of


class NotAllowed(PageError):
    """A page that isn't among those that are counted here."""


class Naming:
    """The rules of one configuration."""

    def __init__(self, rules: Pages) -> None:
        self.rules: Final = rules
        self.keeps_query: Final = rules.query == "keep" or bool(rules.query_keep)
        """Whether any of a query may belong to a page."""
        self.is_plain: Final = not (rules.case == "lower" or rules.index_files or rules.merge or rules.allow)
        """Whether a page without a query or a trailing slash is named as it stands."""
        self._trims: Final = rules.trailing_slash == "drop"
        self._merged: Final = {name: page for name, page in rules.merge.items() if "*" not in name}
        # Of many patterns most are of one site each: others' pages needn't be held against them.
        self._patterns: Final = [(name, page) for name, page in rules.merge.items() if "*" in name]
        self._sites: Final = {site_of(name) for name, _ in self._patterns}
        self._of_any: Final = [(name, page) for name, page in self._patterns if "*" in site_of(name)]

    def page(self, path: str, query: str = "") -> str:
        """The page of a decoded path, `site/path`, and of the query behind it. Raises PageError."""
        if not self.is_plain:
            path = self._path(path)
        if self._trims:
            path = trim(path)
        page = check_page(path)  # by itself: a query doesn't make up for a missing path
        if query and self.keeps_query:
            kept = query if self.rules.query == "keep" else self._kept(query)
            if kept:
                page = check_page(f"{path}?{kept}")
        return page if self.is_plain else self._allowed(self._target(page))

    def _path(self, path: str) -> str:
        if self.rules.case == "lower":
            path = path.lower()
        folder, slash, name = path.rpartition("/")
        return folder + slash if slash and name in self.rules.index_files else path

    def _kept(self, query: str) -> str:
        """The parameters that stay, in the order of the list."""
        given = [(each.partition("=")[0], each) for each in query.split("&")]
        return "&".join(each for kept in self.rules.query_keep for name, each in given if name == kept)

    def _target(self, page: str) -> str:
        if page in self._merged:
            return self._merged[page]
        patterns = self._patterns if site_of(page) in self._sites else self._of_any
        return next((target for pattern, target in patterns if matches(pattern, page)), page)

    def _allowed(self, page: str) -> str:
        if self.rules.allow and not any(names(entry, page) for entry in self.rules.allow):
            raise NotAllowed("this page isn't among those that are counted here; pages.allow lists them")
        return page
