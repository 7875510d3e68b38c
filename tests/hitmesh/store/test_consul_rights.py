"""A Consul that lets a token read something, all or nothing: what it hides is unknown, never absent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from hitmesh.errors import StoreUnknown
from hitmesh.settings.consul import ConsulSettings
from hitmesh.settings.consul_query import BlockingQuery
from hitmesh.store import Done, Row, Unknown, Write, consul_http
from hitmesh.store.consul import ConsulTotals
from hitmesh.store.consul_host import Host, NoAnswer
from tests.hitmesh.store.patience import PATIENT
from tests.services.consul import MASTER_TOKEN
from tests.services.guarded_consul import Guarded

READS: dict[str, Callable[[ConsulTotals], object]] = {
    "read_head": lambda store: store.read_head(1),
    "read": lambda store: store.read({1: ["a/b"]}),
    "load": lambda store: store.load(1),
    "scan": lambda store: list(store.scan()),
    "check": lambda store: store.check(),
}
HIDDEN = "403: Permission denied"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    one = Guarded(tmp_path_factory.mktemp("guarded"))
    yield one
    one.server.stop()


@pytest.fixture
def store(guarded: Guarded, prefix: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ConsulTotals]:
    """A store in which there are a head and a row; what is done with it is done without a token."""
    made = ConsulTotals([Host("127.0.0.1", guarded.server.ports.http)], prefix, timeouts=PATIENT)
    with monkeypatch.context() as with_token:
        with_token.setenv("CONSUL_HTTP_TOKEN", MASTER_TOKEN)
        assert isinstance(made.write([Write(1, 0, b"head", [Row("a/b", "eu", 5, 1)])])[0], Done)
    yield made
    made.close()


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
def test_without_a_token_nothing_is_read_as_absent(store: ConsulTotals, read: Callable[[ConsulTotals], object]) -> None:
    with pytest.raises(StoreUnknown, match=f"{HIDDEN}: there is no ACL token"):
        read(store)


def test_without_a_token_a_write_is_unknown(store: ConsulTotals) -> None:
    (outcome,) = store.write([Write(2, 0, b"head", [])])
    assert isinstance(outcome, Unknown)
    assert "Permission denied" in outcome.reason


@pytest.mark.parametrize("kind", ["heads", "rows"])
def test_a_token_that_may_read_only_one_kind_finds_the_other_unknown(
    guarded: Guarded, store: ConsulTotals, prefix: str, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    policy = guarded.policy(f"{prefix}-{kind}", f'key_prefix "{prefix}/{kind}/" {{ policy = "read" }}')
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", guarded.token(policy))
    seen, hidden = ("read_head", "load") if kind == "heads" else ("load", "read_head")
    assert READS[seen](store)
    with pytest.raises(StoreUnknown, match=f"{HIDDEN}: the ACL token of CONSUL_HTTP_TOKEN may not"):
        READS[hidden](store)
    with pytest.raises(StoreUnknown, match=HIDDEN):
        store.read({1: ["a/b"]})


def test_a_token_with_all_rights_finds_what_is_there_and_what_is_not(
    store: ConsulTotals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", MASTER_TOKEN)
    head = store.read_head(1)
    assert head is not None
    assert (head.body, store.load(1)) == (b"head", [Row("a/b", "eu", 5, 1)])
    assert (store.read_head(2), store.load(2)) == (None, [])


def test_an_answer_from_before_the_rights_came_is_not_believed(
    store: ConsulTotals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rights are there when they are asked about, and weren't when the answer was given."""
    ask = store._consul._ask

    def granted_meanwhile(host: Host, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, str]:
        answer = ask(host, method, path, body, timeout_s)
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", MASTER_TOKEN)
        return answer

    monkeypatch.setattr(store._consul, "_ask", granted_meanwhile)
    head = store.read_head(1)
    assert head is not None
    assert head.body == b"head"


def test_rights_that_are_taken_away_are_noticed_with_the_next_read(
    store: ConsulTotals, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consul_http, "RIGHTS_S", 1000.0)
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", MASTER_TOKEN)
    assert store.read_head(2) is None
    monkeypatch.delenv("CONSUL_HTTP_TOKEN")
    with pytest.raises(StoreUnknown, match=HIDDEN):
        store.read_head(2)


def test_settings_that_may_not_be_read_are_unknown(
    guarded: Guarded, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ConsulSettings([Host("127.0.0.1", guarded.server.ports.http)], prefix, timeouts=PATIENT)
    for read in (settings.list, settings.editions, lambda: settings.get("routes/a")):
        with pytest.raises(StoreUnknown, match=HIDDEN):
            read()
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", MASTER_TOKEN)
    assert settings.list() == {}
    settings.close()


def test_a_watch_is_not_told_that_there_are_no_settings_when_it_may_not_see_them(
    guarded: Guarded, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = BlockingQuery([Host("127.0.0.1", guarded.server.ports.http)], f"{prefix}/settings/", wait_s=0.1)
    with pytest.raises(NoAnswer, match=HIDDEN):
        query.ask()
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", MASTER_TOKEN)
    assert query.ask() == []
    monkeypatch.delenv("CONSUL_HTTP_TOKEN")
    with pytest.raises(NoAnswer, match=HIDDEN):
        query.ask()
    query.close()
