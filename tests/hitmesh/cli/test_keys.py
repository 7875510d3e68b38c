"""`hitmesh keygen` and `hitmesh keys` on a folder of keys; with a running mesh they are tests/system/test_scale.py's."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from hitmesh.cli import keyfolder, turned_away
from hitmesh.cli.main import run
from hitmesh.config import load
from hitmesh.mesh.keyring import list_path, new_pair, read_list, read_pair, secret_path
from hitmesh.protocol.messages import Answer, Instance, Seen, make
from hitmesh.state.keylist import Peer, line_of

COLLECTOR = Peer("eu-west", "collector", "collector-1")
NEW = Peer("eu-west", "collector", "collector-9")


@pytest.fixture
def keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    folder = tmp_path / "keys"
    assert run(["keygen", str(folder)]) == 0
    capsys.readouterr()
    return folder


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert run(list(words)) == 1
    out, err = capsys.readouterr()
    assert out == ""
    return err.removeprefix("hitmesh: ").rstrip("\n")


def key_of(folder: Path, peer: Peer) -> str:
    (key,) = read_list(folder).keys_of(peer)
    return key


def test_everybody_gets_a_key_and_nobody_else_can_read_a_secret(tmp_path: Path, capsys: Any) -> None:
    folder = tmp_path / "keys"
    assert run(["keygen", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "eu-west: 10 new keys of 10", "us-west: 10 new keys of 10", f"the list: {folder}/allowed",
    ]  # fmt: skip
    known = dict(read_list(folder).items())
    assert len(known) == 20
    for key, peer in known.items():
        path = secret_path(folder, peer)
        assert read_pair(path).public.hex() == key
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(list_path(folder).stat().st_mode) == 0o644


def test_who_has_a_key_keeps_it_and_who_is_new_gets_one(keys: Path, tmp_path: Path, capsys: Any) -> None:
    before = dict(read_list(keys).items())
    more = tmp_path / "more.toml"
    more.write_text('name = "eu-west"\n[nodes.a]\naddress = "127.0.0.1"\nnexus = 2\nprocessor = 3\ncollector = 2\n')
    assert run(["keygen", str(keys), "--config", str(more)]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "eu-west: 1 new keys of 8"
    after = dict(read_list(keys).items())
    assert before.items() < after.items()
    assert {str(peer) for key, peer in after.items() if key not in before} == {"eu-west/processor/processor-3"}


def test_a_file_names_its_folder_of_keys_relative_to_itself_and_needs_one_beyond_loopback(
    keys: Path, tmp_path: Path, capsys: Any
) -> None:
    file = tmp_path / "eu-west.toml"
    text = 'name = "eu-west"\nkeys = "keys"\n[nodes.a]\naddress = "10.0.0.1"\nnexus = 1\nprocessor = 1\ncollector = 1\n'
    file.write_text(text)
    assert load(file).keys == str(keys)
    file.write_text(text.replace('keys = "keys"', ""))
    assert "is beyond loopback, where sockets need keys: `hitmesh keygen DIR` makes them" in refused(
        capsys, "check-config", str(file)
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('insecure_until = "2026-12-24"', "insecure_until means nothing without keys"),
        ('keys = "k"\ninsecure = true\ninsecure_until = "2026-12-24"', "insecure_until is when insecure = true ends"),
        ('keys = "k"\ninsecure_until = "soon"', "insecure_until (soon) must be a date and time in UTC, such as"),
        ('keys = "k"\ninsecure_until = "2026-12-24T12:00"', "(2026-12-24T12:00) must say that it is in UTC: a Z"),
    ],
)
def test_what_contradicts_itself_about_keys_is_refused(tmp_path: Path, capsys: Any, lines: str, said: str) -> None:
    file = tmp_path / "dc.toml"
    nodes = '[nodes.a]\naddress = "127.0.0.1"\nnexus = 1\nprocessor = 1\ncollector = 1\n'
    file.write_text(f'name = "eu-west"\n{lines}\n{nodes}')
    assert said in refused(capsys, "check-config", str(file))


def test_the_list_is_shown_with_whose_secret_is_here(keys: Path, capsys: Any) -> None:
    secret_path(keys, COLLECTOR).unlink()
    assert run(["keys", "list", "--keys", str(keys), "--json"]) == 0
    shown = {tuple(one[name] for name in ("dc", "role", "name")): one for one in json.loads(capsys.readouterr().out)}
    assert len(shown) == 20
    assert shown[COLLECTOR]["secret"] == "elsewhere"
    assert shown["eu-west", "nexus", "nexus-1"]["secret"] == "here"
    assert run(["keys", "list", "--keys", str(keys)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["KEY", "DC", "ROLE", "NAME", "SECRET"]
    assert [key_of(keys, COLLECTOR)[:12], *COLLECTOR, "elsewhere"] in [line.split() for line in lines]


def test_one_more_is_added_by_name_or_by_its_own_key(keys: Path, capsys: Any) -> None:
    assert run(["keys", "add", str(NEW), "--keys", str(keys)]) == 0
    assert key_of(keys, NEW) == read_pair(secret_path(keys, NEW)).public.hex()
    made = new_pair().public.hex()
    assert run(["keys", "add", "us-west/balancer/balancer-7", "--key", made, "--keys", str(keys)]) == 0
    assert read_list(keys).owner(made) == Peer("us-west", "balancer", "balancer-7")


def test_a_key_is_revoked_by_its_first_digits_or_by_whose_it_is(keys: Path, capsys: Any) -> None:
    key = key_of(keys, COLLECTOR)
    assert run(["keys", "revoke", key[:8], "--keys", str(keys)]) == 0
    assert capsys.readouterr().out == f"{COLLECTOR}: {key[:12]} is on the list no more\n"
    assert run(["keys", "revoke", "us-west/nexus/nexus-1", "--keys", str(keys)]) == 0
    assert len(read_list(keys)) == 18
    assert secret_path(keys, COLLECTOR).exists()


@pytest.mark.parametrize("words", [["keygen"], ["keys", "add", str(COLLECTOR), "--keys"]], ids=["keygen", "add"])
def test_a_revoked_key_never_comes_back(keys: Path, words: list[str]) -> None:
    revoked = key_of(keys, COLLECTOR)
    assert run(["keys", "revoke", str(COLLECTOR), "--keys", str(keys)]) == 0
    assert run([*words, str(keys)]) == 0
    assert key_of(keys, COLLECTOR) != revoked
    assert revoked not in read_list(keys)
    assert read_pair(secret_path(keys, COLLECTOR)).public.hex() == key_of(keys, COLLECTOR)


def test_a_list_is_never_emptied_since_nobody_would_believe_it(keys: Path, capsys: Any) -> None:
    list_path(keys).write_text(line_of(new_pair().public.hex(), COLLECTOR) + "\n")
    said = refused(capsys, "keys", "revoke", str(COLLECTOR), "--keys", str(keys))
    assert said == "the list would have no key left, and a list without keys changes nothing (stop the mesh instead)"
    assert len(read_list(keys)) == 1


def test_who_has_lost_its_secret_is_told_how_to_get_another(keys: Path, capsys: Any) -> None:
    secret_path(keys, COLLECTOR).unlink()
    capsys.readouterr()
    assert refused(capsys, "keys", "add", str(COLLECTOR), "--keys", str(keys)).endswith(
        "(`hitmesh keys rotate` gives it another one; if its secret is lost, revoke this one first)"
    )
    assert run(["keys", "revoke", str(COLLECTOR), "--keys", str(keys)]) == 0
    assert run(["keys", "add", str(COLLECTOR), "--keys", str(keys)]) == 0
    assert secret_path(keys, COLLECTOR).exists()


def test_the_last_key_of_somebody_is_not_dropped(keys: Path, capsys: Any) -> None:
    def rotate(step: str) -> list[str]:
        return ["keys", "rotate", str(COLLECTOR), "--step", step, "--keys", str(keys)]

    earlier = list_path(keys).read_text()
    assert run(rotate("add")) == 0
    capsys.readouterr()
    assert refused(capsys, *rotate("drop")).startswith(f"the next key of {COLLECTOR} isn't in use yet")
    assert len(read_list(keys).keys_of(COLLECTOR)) == 2
    list_path(keys).write_text(earlier)
    assert refused(capsys, *rotate("use")).startswith(f"the next key of {COLLECTOR} isn't on the list")
    assert run(["keys", "revoke", str(COLLECTOR), "--keys", str(keys)]) == 0
    keyfolder.add(keys, COLLECTOR, new_pair().public.hex())
    capsys.readouterr()
    assert refused(capsys, *rotate("drop")).startswith(f"the key that {COLLECTOR} starts with isn't on the list")


def test_two_changes_of_keys_at_once_are_refused(keys: Path, capsys: Any) -> None:
    with keyfolder.rotating(keys):
        said = refused(capsys, "keys", "rotate", "--step", "add", "--keys", str(keys))
    assert said.startswith("another `hitmesh keys rotate` is at work in")


def test_comments_in_the_list_stay(keys: Path) -> None:
    path = list_path(keys)
    path.write_text(path.read_text() + "# our own\n")
    assert run(["keys", "add", str(NEW), "--keys", str(keys)]) == 0
    assert run(["keys", "revoke", str(COLLECTOR), "--keys", str(keys)]) == 0
    assert "# our own\n" in path.read_text()


def test_keys_change_in_three_steps_and_each_may_be_done_twice(keys: Path, capsys: Any) -> None:
    old = key_of(keys, COLLECTOR)
    for _ in range(2):
        assert run(["keys", "rotate", str(COLLECTOR), "--step", "add", "--keys", str(keys)]) == 0
    first, new = read_list(keys).keys_of(COLLECTOR)
    assert first == old
    assert read_pair(secret_path(keys, COLLECTOR)).public.hex() == old
    for _ in range(2):
        assert run(["keys", "rotate", str(COLLECTOR), "--step", "use", "--keys", str(keys)]) == 0
    assert read_pair(secret_path(keys, COLLECTOR)).public.hex() == new
    assert read_list(keys).keys_of(COLLECTOR) == (old, new)
    assert run(["keys", "rotate", str(COLLECTOR), "--step", "add", "--keys", str(keys)]) == 0, "in the midst of it"
    for _ in range(2):
        assert run(["keys", "rotate", str(COLLECTOR), "--step", "drop", "--keys", str(keys)]) == 0
    assert read_list(keys).keys_of(COLLECTOR) == (new,)
    assert len(read_list(keys)) == 20


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["add", "eu-west/collector"], "'eu-west/collector' must be DATACENTER/ROLE/NAME, such as eu-west/collector/"),
        (["add", "eu-west/colector/a"], "'colector' is no role; did you mean collector?"),
        (["add", str(COLLECTOR)], "eu-west/collector/collector-1 has a key already (`hitmesh keys rotate` gives it"),
        (["add", str(NEW), "--key", "abc"], "'abc' is no public key, which has 64 digits of 0-9 a-f"),
        (["revoke", "abc"], "'abc' is too short: 8 digits of a key at least"),
        (["revoke", "zzzzzzzz"], "no keys begin with 'zzzzzzzz' (see `hitmesh keys list`)"),
        (["revoke", "eu-west/collector/collector-2x"], "eu-west/collector/collector-2x has no key (did you mean"),
        (["rotate", "ap-south"], "nobody whose key is in"),
    ],
)
def test_what_is_wrong_is_said_and_changes_nothing(keys: Path, capsys: Any, words: list[str], said: str) -> None:
    before = list_path(keys).read_text()
    assert refused(capsys, "keys", *words, "--keys", str(keys)).startswith(said)
    assert list_path(keys).read_text() == before


def test_a_list_with_a_mistake_is_not_written_over(keys: Path, capsys: Any) -> None:
    list_path(keys).write_text("nonsense\n")
    assert "allowed, line 1: it has 1 words" in refused(capsys, "keys", "add", str(NEW), "--keys", str(keys))
    assert list_path(keys).read_text() == "nonsense\n"


def test_without_keys_the_way_to_some_is_said(tmp_path: Path, capsys: Any) -> None:
    assert "there are no keys in" in refused(capsys, "keys", "list", "--state-dir", str(tmp_path))


def test_who_is_turned_away_is_said_in_words() -> None:
    def seen(name: str, **load: float) -> Seen:
        return Seen(Instance("eu", "nexus", name, name, "up", 1, 0, {}, dict(load), {}), 1, 2000, True)

    loads = {"turned_away.heartbeats.unknown_key": 3.0, "turned_away.lookups.no_key": 1.0, "hits": 2.0}
    loads |= {"turned_away_s.heartbeats.unknown_key": 7200.0, "turned_away_s.lookups.no_key": 5.0}
    loads |= {"turned_away.changes.no_key": 1.0}  # as an older release says it
    answer = make(Answer, 1, "", "n", 1, True, (seen("nexus-1", **loads), seen("nexus-2", shut_out=2.0), seen("quiet")))
    assert list(turned_away.told("eu", answer)) == [
        (
            "eu: nexus-1 has turned away 1 on changes with no key; 3 on heartbeats with a key that isn't in the list (the "
            "last 2 h ago); 1 on lookups with no key (the last 7 s ago): its log says who"
        ),
        "eu: nexus-2 isn't let in by 2 Nexuses: their list may lack its key, or its list their new one; its log says where",
    ]  # fmt: skip
    assert list(turned_away.told("us", answer)) == []
