"""The totals store in Consul's KV. Owns what an answer means for a write or a read; knows
nothing of what is in a head, nor of connections.

Everything is a transaction: a read of several keys is from one moment, and `?consistent` makes
the leader ask its quorum before it answers. Invariants:

- 200 with the body that it should have is the only answer with a value in it; 409 about an
  index the only one that refuses. All else, time-outs and cut connections too, is unknown: some
  of those writes are applied, now or after the next election.
- Nothing is read as absent unless a transaction that succeeded didn't have it, of a host that
  lets us read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from hitmesh.errors import StoreUnknown
from hitmesh.hub.blocking import call_blocking
from hitmesh.store import HeadAndRows, Outcome, Row, StoredHead, Unknown, Write, consul_host, consul_txn
from hitmesh.store.consul_access import excerpt
from hitmesh.store.consul_host import Host, NoAnswer
from hitmesh.store.consul_http import ConsulHosts
from hitmesh.store.consul_keys import Keys
from hitmesh.store.consul_txn import Entry, Packed
from hitmesh.store.limits import check_writes

MAX_ROWS = consul_txn.MAX_OPERATIONS - 1  # the head takes one operation
# A head grows by a third in base64; a byte of a page's name becomes three when percent-encoded. 256 KiB
# with 63 such pages of 1,024 bytes are 490,000 bytes of JSON, below Consul's limit of 524,288.
MAX_WRITE_BYTES = 256 * 1024
MAX_HEAD_BYTES = 380 * 1024  # without rows, a redo: 518,828 bytes of base64, and room for the key
READ_TIMEOUT_S = 2.0  # a leader answers in milliseconds; three hosts have been asked after 6 s
WRITE_TIMEOUT_S = 5.0  # longer: a commit that is given up is unknown, and costs a read of the head
SCAN_TIMEOUT_S = 30.0  # one answer with every row of a partition: 100,000 take about half a second
READ_TRIES = 5  # of a read in several transactions, between which the head mustn't move
HUB_BYTES = 64 * 1024  # of an answer that is taken apart on the hub, in about a millisecond; larger ones in a thread


class _Damaged(StoreUnknown):
    """Consul answered, and something in the answer isn't as we write it."""


class Timeouts(Struct, frozen=True):
    """How long an answer may take to begin, in seconds."""

    read_s: float = READ_TIMEOUT_S
    write_s: float = WRITE_TIMEOUT_S
    scan_s: float = SCAN_TIMEOUT_S


class ConsulTotals:
    """A TotalsStore below `prefix` in the KV store of the datacenter that `hosts` are in."""

    max_rows = MAX_ROWS
    max_write_bytes = MAX_WRITE_BYTES
    place = 0.0  # each host may reach it at another address
    max_head_bytes = MAX_HEAD_BYTES

    def __init__(self, hosts: Sequence[Host], prefix: str, *, timeouts: Timeouts | None = None) -> None:
        self._consul = ConsulHosts(hosts)
        self._keys = Keys(prefix)
        self._timeouts = timeouts or Timeouts()
        self.endpoint = consul_host.url(hosts, prefix)

    def write(self, writes: Sequence[Write]) -> list[Outcome]:
        check_writes(writes, max_rows=MAX_ROWS, max_write_bytes=MAX_WRITE_BYTES, max_head_bytes=MAX_HEAD_BYTES)
        outcomes: list[Outcome] = [Unknown("not sent: Consul failed before it was this write's turn")] * len(writes)
        todo = consul_txn.group(consul_txn.pack(number, write, self._keys) for number, write in enumerate(writes))
        while todo:
            together = todo.pop(0)
            try:
                found = self._commit(together)
            except NoAnswer as failure:
                # What comes after it stays as it is: each would wait for a time-out of its own.
                outcomes = _all(outcomes, together, Unknown(f"Consul: {failure}"))
                break
            for number, outcome in found.items():
                outcomes[number] = outcome
            if rest := [each for each in together if each.number not in found]:
                todo.insert(0, rest)  # at least one was refused, so this ends
        return outcomes

    def read_head(self, partition: int) -> StoredHead | None:
        heads, _ = self._heads_and_rows([self._keys.head(partition)], self._timeouts.read_s)
        return heads.get(partition)

    def read(self, wanted: Mapping[int, Sequence[str]]) -> dict[int, HeadAndRows]:
        found: dict[int, HeadAndRows] = {}
        for _ in range(READ_TRIES):
            left = {partition: pages for partition, pages in wanted.items() if partition not in found}
            answers = [(keys, *self._heads_and_rows(keys, self._timeouts.read_s)) for keys in self._read_keys(left)]
            for partition in left:
                heads = [heads.get(partition) for keys, heads, _ in answers if self._keys.head(partition) in keys]
                if heads.count(heads[0]) == len(heads):
                    found[partition] = (heads[0], [row for _, _, rows in answers for row in rows.get(partition, ())])
            if len(found) == len(wanted):
                return found
        moving = ", ".join(str(partition) for partition in wanted if partition not in found)
        raise self._unknown(f"partitions {moving} were written to during each of {READ_TRIES} reads")

    def _read_keys(self, wanted: Mapping[int, Sequence[str]]) -> list[list[str]]:
        """The keys to ask for, a transaction each; a partition's head is in each that has pages of it."""
        transactions: list[list[str]] = [[]]
        for partition, pages in wanted.items():
            head = self._keys.head(partition)
            keys = [self._keys.page(partition, page) for page in dict.fromkeys(pages)]
            for key in keys or [""]:
                if len(transactions[-1]) + 2 > consul_txn.MAX_OPERATIONS:
                    transactions.append([])
                if head not in transactions[-1]:
                    transactions[-1].append(head)
                if key:
                    transactions[-1].append(key)
        return transactions

    def load(self, partition: int) -> list[Row]:
        _, rows = self._heads_and_rows([self._keys.rows_of(partition)], self._timeouts.scan_s)
        return rows.get(partition, [])

    def scan(self) -> Iterable[tuple[int, StoredHead | None, list[Row]]]:
        # A transaction for each partition, not for all: a million rows are an answer of 200 MB.
        for partition in self._present():
            prefixes = [self._keys.head(partition), self._keys.rows_of(partition)]
            try:
                heads, rows = self._heads_and_rows(prefixes, self._timeouts.scan_s)
            except _Damaged as error:
                # It hides no other partition: what comes for it is no row, as whoever looks at it will see.
                yield partition, None, [Row(error.message, "", -1, 0)]
                continue
            if heads or rows:
                yield partition, heads.get(partition), rows.get(partition, [])

    def _present(self) -> list[int]:
        """The partitions that have a head or rows."""
        heads, _ = self._heads_and_rows([self._keys.heads], self._timeouts.scan_s)
        found = set(heads)
        # Rows without a head are what is left when somebody has deleted it.
        others = self._keys.rows_of_all_but(heads)
        for at in range(0, len(others), consul_txn.MAX_OPERATIONS):
            _, rows = self._heads_and_rows(others[at : at + consul_txn.MAX_OPERATIONS], self._timeouts.scan_s)
            found.update(rows)
        return sorted(found)

    def check(self) -> None:
        self._heads_and_rows([self._keys.nothing], self._timeouts.read_s)

    def close(self) -> None:
        self._consul.close()

    def _commit(self, together: Sequence[Packed]) -> dict[int, Outcome]:
        """What became of these writes, by number; one that is missing has to be sent again."""

        def understand(status: int, body: str) -> dict[int, Outcome]:
            try:
                if status == 200:
                    return consul_txn.done(together, body)
                if status == 409:
                    return consul_txn.refused(together, body)
            except ValueError as error:
                raise NoAnswer(f"{error}: {self._consul.refusal(status, body)}") from error
            if status == 413:
                raise ValueError(f"Consul's limits are lower than its defaults: {excerpt(body)}")
            raise NoAnswer(self._consul.refusal(status, body))

        return self._consul.write(consul_txn.write_body(together), self._timeouts.write_s, understand)

    def _heads_and_rows(
        self, prefixes: Sequence[str], timeout_s: float
    ) -> tuple[dict[int, StoredHead], dict[int, list[Row]]]:
        """All heads and rows whose keys begin with one of `prefixes`, by partition, from one moment."""

        def understand(status: int, body: str) -> tuple[dict[int, StoredHead], dict[int, list[Row]]]:
            if status != 200:
                raise NoAnswer(self._consul.refusal(status, body))
            try:
                if len(body) <= HUB_BYTES:
                    return self._parse(consul_txn.entries(body))
                return call_blocking(lambda: self._parse(consul_txn.entries(body)))
            except ValueError as error:
                raise NoAnswer(f"200, but {error}: {excerpt(body)}") from error

        def lacking(answer: tuple[dict[int, StoredHead], dict[int, list[Row]]]) -> set[str]:
            """Of heads and rows, those of which something isn't there: a token's rights are for one or for both."""
            heads, rows = answer
            found = {*map(self._keys.head, heads), *map(self._keys.rows_of, rows)}
            left = [prefix for prefix in prefixes if prefix not in found]
            if left:  # pages of a few rows, or rows of which there should be none
                found = {self._keys.page(partition, row.page) for partition, some in rows.items() for row in some}
            return {self._keys.kind(prefix) for prefix in left if prefix not in found}

        try:
            return self._consul.read(consul_txn.read_body(prefixes), timeout_s, understand, lacking)
        except NoAnswer as failure:
            raise self._unknown(str(failure)) from failure

    def _parse(self, entries: Iterable[Entry]) -> tuple[dict[int, StoredHead], dict[int, list[Row]]]:
        heads: dict[int, StoredHead] = {}
        rows: dict[int, list[Row]] = {}
        for entry in entries:
            try:
                if entry.key.startswith(self._keys.rows):
                    partition, row = self._keys.parse_row(entry.key, entry.value or b"", entry.flags)
                    rows.setdefault(partition, []).append(row)
                else:
                    partition = self._keys.partition_of_head(entry.key)
                    heads[partition] = StoredHead(entry.value or b"", entry.modify_index)
            except ValueError as error:
                reason = f"the key {entry.key} is not as we write them: {error}"
                raise _Damaged(reason, op="read totals", endpoint=self.endpoint) from error
        return heads, rows

    def _unknown(self, reason: str) -> StoreUnknown:
        return StoreUnknown(reason, op="read totals", endpoint=self.endpoint)


def _all(outcomes: list[Outcome], together: Sequence[Packed], outcome: Outcome) -> list[Outcome]:
    numbers = {each.number for each in together}
    return [outcome if number in numbers else old for number, old in enumerate(outcomes)]
