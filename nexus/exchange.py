"""Live settings between datacenters: each Nexus brings into its own store what others have and it has not.

Owns the digest of what this datacenter's store holds, the questions to Nexuses elsewhere, and the
answers to theirs. How a Nexus hears of others is the server's affair; which edition of a setting
wins is `hitmesh.settings`'.

Invariants:
- Only a Nexus writes here what came from elsewhere, and only what ranks above what is here. Several
  Nexuses of a datacenter that do so at the same time do no harm.
- With each other datacenter one exchange is under way at a time; what is heard meanwhile is
  followed after it. What is asked, kept and written is bounded, and none of it blocks the hub.
- What this release can't make sense of is brought over all the same, as long as it has the form of a
  setting: the other datacenters may know it. Whether it applies is for those who use it.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import gevent
import zmq

from hitmesh.errors import ConfigError, DecodeError, MeshError, StoreUnknown
from hitmesh.mesh.connecting import connect
from hitmesh.mesh.duty import spawn
from hitmesh.mesh.network import Network
from hitmesh.mesh.sockets import open_socket, receive_message
from hitmesh.protocol.messages import (
    MAX_DCS,
    MAX_FRAME_BYTES,
    MAX_SETTINGS,
    Lookup,
    SettingRecord,
    Settings,
    decode,
    encode,
    make,
)
from hitmesh.protocol.names import split_key
from hitmesh.settings import Edition, SettingsStore, limits, merging
from hitmesh.settings.watch import Watch

WHAT: Final = "settings"  # what a Lookup asks for here
NOT_KNOWN: Final = "-"  # in place of a digest: the store hasn't answered yet
ANSWER_S: Final = 3.0  # over a link of 120 ms that loses packets, connecting included
PAGE_BYTES: Final = 1024 * 1024  # of values in one answer, well below a frame's limit
FETCHED_BYTES: Final = 64 * 1024 * 1024  # of values from one datacenter: what a read of a store may have
LINKS: Final = 4  # connections kept to the Nexuses of one datacenter, which are two as a rule
PING_S: Final = 1.0  # of those connections

log = logging.getLogger("hitmesh.nexus")


class _Heard(NamedTuple):
    digest: str
    endpoint: str


class SettingsExchange:
    """The exchange of one Nexus. `on_change` is called in a greenlet when `digest` has another answer."""

    def __init__(
        self, store: SettingsStore, dc: str, network: Network, on_change: Callable[[], None] = lambda: None
    ) -> None:
        self._store = store
        self._dc = dc
        self._network = network
        network.on_change(self._look_at_links)
        self._on_change = on_change
        self._editions: dict[str, Edition] = {}
        self._digest = NOT_KNOWN
        self._heard: dict[str, _Heard] = {}  # by datacenter, what it said last
        self._fetching: set[str] = set()
        self._absorbed: dict[str, tuple[str, str]] = {}  # by datacenter: its digest that is in ours, and ours then
        self._links: dict[str, OrderedDict[str, _Link]] = {}  # by datacenter and endpoint
        self._told: dict[str, str] = {}  # by datacenter or key: what the log has said
        self._watch: Watch[Edition] | None = None
        self._stopped = False
        self.version = 0
        """Of the newest change in this datacenter's store; for the heartbeats, as `Live.version`."""
        self.merged = 0
        """Editions brought over from other datacenters so far."""
        self.refused = 0
        """Editions that no release of ours can have written."""
        self.failed = 0
        """Tries to do so that failed."""

    def start(self) -> None:
        """Begin to follow the store; returns at once."""
        self._watch = self._store.watch_editions()
        spawn("the Nexus's settings", self._follow, self._watch)

    def stop(self) -> None:
        """End it all."""
        self._stopped = True
        if self._watch is not None:
            self._watch.stop()
        for links in self._links.values():
            for link in links.values():
                link.close()
        self._store.close()

    def digest(self) -> str:
        """What stands for all settings of this datacenter in `Neighbours.settings`."""
        return self._digest

    def load(self) -> dict[str, float]:
        """What the Nexus tells of this with its heartbeats."""
        return {
            "settings": self.version,
            "settings_merged": self.merged,
            "settings_failed": self.failed,
            "settings_strange": self.refused,
        }

    def heard(self, dc: str, nexus_id: str, digest: str, lookups_endpoint: str) -> None:
        """A Nexus of another datacenter has said its digest; `lookups_endpoint` is where it can be asked."""
        if self._stopped or dc == self._dc or digest == NOT_KNOWN or not lookups_endpoint:
            return
        if dc not in self._heard and len(self._heard) >= MAX_DCS:
            return
        self._heard[dc] = _Heard(digest, lookups_endpoint)
        if len(self._links.get(dc, ())) < LINKS:
            with contextlib.suppress(MeshError):  # whoever asks there will say so
                self._link(dc, lookups_endpoint)  # so that the first question finds it connected
        if dc not in self._fetching and self._lacks(dc):
            self._fetching.add(dc)
            spawn(f"settings from {dc}", self._bring, dc)

    def answer(self, request: Lookup) -> Settings:
        """The answer to a Lookup of "settings": those whose keys come after `request.key`, in order of their keys."""
        records: list[SettingRecord] = []
        size_bytes, more = 0, False
        for key in sorted(each for each in self._editions if each > request.key):
            record = _record(self._editions[key])
            if record is None:
                continue
            size_bytes += len(record.value or "") + len(key)
            if records and (size_bytes > PAGE_BYTES or len(records) >= MAX_SETTINGS):
                more = True
                break
            records.append(record)
        return make(Settings, request.request, more, tuple(records))

    # --- one greenlet each --------------------------------------------------------------------

    def _follow(self, watch: Watch[Edition]) -> None:
        for editions in watch:
            self._take(editions)

    def _bring(self, dc: str) -> None:
        """Bring over what `dc` has, as long as it says that it has something else."""
        try:
            while not self._stopped and self._lacks(dc):
                if not self._bring_once(dc, self._heard[dc]):
                    return  # with the next word of it, again
        finally:
            self._fetching.discard(dc)

    # --- within -------------------------------------------------------------------------------

    def _lacks(self, dc: str) -> bool:
        """Whether `dc` may have something that this datacenter lacks."""
        digest = self._heard[dc].digest
        if self._digest in (NOT_KNOWN, digest):
            return False  # the store is away, or all is the same
        return self._absorbed.get(dc) != (digest, self._digest)

    def _bring_once(self, dc: str, heard: _Heard) -> bool:
        """Whether it went well, and has brought what was heard of."""
        try:
            theirs = self._fetch(dc, heard.endpoint)
            possible = [each for each in theirs.values() if self._is_possible(dc, each)]
            given, beyond = merging.within_reach(possible, self.version)
            for each in beyond:
                self.refused += 1
                self._say(f"{dc}/{each.key}", f"a setting of {dc} is left there: {each.key} has version {each.version}")
            new = self._with_room(dc, merging.newer(given, self._editions))
            if new:
                self.merged += self._store.merge(new)
                self._take_now()
        except (MeshError, StoreUnknown, ConfigError) as error:
            if not self._stopped:
                self.failed += 1
                self._say(dc, f"the settings of {dc} can't be brought over: {error}")
            return False
        self._told.pop(dc, None)
        if new:
            log.info(
                "settings from %s: %s", dc, ", ".join(f"{each.key} (by {each.author})" for each in new[:10]),
                extra={"fields": {"peer": dc, "settings": len(new)}},
            )  # fmt: skip
        digest = merging.digest(theirs)
        self._absorbed[dc] = (digest, self._digest)
        return digest == heard.digest

    def _fetch(self, dc: str, endpoint: str) -> dict[str, Edition]:
        """All that a Nexus has. Raises MeshError."""
        found: dict[str, Edition] = {}
        size_bytes, after = 0, ""
        while True:
            link = self._link(dc, endpoint)
            try:
                answer = link.ask(after)
            except MeshError:
                self._links[dc].pop(endpoint, link).close()  # the next one has a new connection
                raise
            for record in answer.records:
                if record.key <= after:
                    raise MeshError(f"{record.key} is out of order", op=WHAT, endpoint=endpoint)
                after = record.key
                found[record.key] = _edition(record)
                size_bytes += len(record.value or "")
            if not answer.more:
                return found
            if not answer.records or size_bytes > FETCHED_BYTES or len(found) > limits.MAX_EDITIONS:
                raise MeshError("there is no end to them", op=WHAT, endpoint=endpoint)

    def _link(self, dc: str, endpoint: str) -> _Link:
        links = self._links.setdefault(dc, OrderedDict())
        link = links.get(endpoint)
        if link is None:
            place = split_key(endpoint)[0]
            for former in [one for one in links if split_key(one)[0] == place]:
                links.pop(former).close()  # it has another key now
            if len(links) >= LINKS:
                links.popitem(last=False)[1].close()
            link = links[endpoint] = _Link(self._network, endpoint)
        links.move_to_end(endpoint)
        return link

    def _look_at_links(self) -> None:
        """Close those to whom the list has another key now, or none: nobody uses them again."""
        for links in self._links.values():
            for endpoint in [one for one in links if not self._network.is_good(one)]:
                links.pop(endpoint).close()

    def _is_possible(self, dc: str, edition: Edition) -> bool:
        try:
            limits.check_edition(edition)
        except ConfigError as error:
            self.refused += 1
            self._say(f"{dc}/{edition.key}", f"a setting of {dc} is left there: {error}")
            return False
        return True

    def _with_room(self, dc: str, new: list[Edition]) -> list[Edition]:
        """Those of `new` that the limit of keys has room for."""
        room = max(0, limits.MAX_EDITIONS - len(self._editions))
        added = [each for each in new if each.key not in self._editions]
        if len(added) > room:
            self._say(f"{dc}/", f"settings of {dc} are left there: there are {limits.MAX_EDITIONS} keys here already")
        left = {each.key for each in added[room:]}
        return [each for each in new if each.key not in left]

    def _take_now(self) -> None:
        """What was just written, before the watch comes to it."""
        if self._watch is not None:
            self._watch.again()  # or it would not tell of a store that is as it was before
        self._take(self._store.editions())

    def _take(self, editions: Mapping[str, Edition]) -> None:
        self._editions = dict(editions)
        self.version = max((each.version for each in editions.values()), default=0)
        digest = merging.digest(editions)
        if digest != self._digest:
            self._digest = digest
            self._on_change()

    def _say(self, about: str, words: str) -> None:
        """Once, until it is another story."""
        if self._told.get(about) != words:
            if len(self._told) > limits.MAX_EDITIONS:
                self._told.clear()
            self._told[about] = words
            log.warning("%s", words)


class _Link:
    """A connection to one Nexus elsewhere, used by one greenlet: kept, as to connect takes several round trips."""

    def __init__(self, network: Network, endpoint: str) -> None:
        self._endpoint = endpoint
        self._numbers = itertools.count(1)
        try:
            self._socket = open_socket(network, zmq.DEALER, heartbeat_s=PING_S, receive_bytes=MAX_FRAME_BYTES)
        except zmq.ZMQError as error:  # no file descriptor is left
            raise MeshError(str(error), op=WHAT, endpoint=endpoint) from error
        try:
            connect(network, self._socket, endpoint)
        except MeshError:
            self.close()
            raise

    def ask(self, after: str) -> Settings:
        """One page of settings. Raises MeshError."""
        number = next(self._numbers)
        try:
            self._socket.send(encode(make(Lookup, number, WHAT, after)), zmq.NOBLOCK)
            with gevent.Timeout(ANSWER_S, MeshError(f"no answer within {ANSWER_S:g} s")):
                while True:
                    answer = decode(receive_message(self._socket)[-1], Settings)
                    if answer.request == number:  # else it is late
                        return answer
        except (zmq.ZMQError, DecodeError, MeshError) as error:
            raise MeshError(str(error), op=WHAT, endpoint=self._endpoint) from error

    def close(self) -> None:
        self._socket.close(linger=0)


def _record(edition: Edition) -> SettingRecord | None:
    """As it is sent; None for what somebody put there by hand, and is no setting."""
    try:
        limits.check_edition(edition)
    except ConfigError:
        return None
    value = None if edition.value is None else edition.value.decode()
    return SettingRecord(edition.key, value, edition.version, edition.author, edition.changed_at)


def _edition(record: SettingRecord) -> Edition:
    value = None if record.value is None else record.value.encode("utf-8", "surrogatepass")
    return Edition(record.key, value, record.version, record.author, record.changed_at)
