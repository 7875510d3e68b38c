"""Statistics in a real PostgreSQL, brought there by two real recorders: once each, whatever happens to the database."""

from __future__ import annotations

import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from hitmesh.recorder.blocks import head_of
from hitmesh.recorder.migrating import migrate
from hitmesh.recorder.postgresql import _GAP
from hitmesh.recorder.volumes import volumes_in
from tests.hitmesh.recorder.senders import Sender, launch, loads, this_minute
from tests.services import wait_for
from tests.services.disks import full, small_disk
from tests.services.postgres import Postgres, own, postgres
from tests.system.mesh import Mesh

PAIR = ("recorder-1", "recorder-2")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres() as server:
        yield server


@pytest.fixture(scope="module")
def password_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("password") / "postgresql"


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, server: Postgres, password_file: Path) -> Iterator[Mesh]:
    """A Nexus and two recorders, which found the database empty both at once."""
    tell(password_file, server.password)
    table = {"postgresql": server.url, "postgresql_password_file": str(password_file)}
    mesh = Mesh(tmp_path_factory.mktemp("mesh"), recorders=2, recorder=table, timing={"heartbeat_s": 0.2})
    try:
        launch(mesh, "nexus-1", *PAIR)
        yield mesh
    finally:
        mesh.stop()


def tell(file: Path, password: str) -> None:
    file.write_text(f"{password}\n")
    file.chmod(stat.S_IRUSR | stat.S_IWUSR)


def minutes(server: Postgres, instance: str) -> list[int]:
    """Of which minutes there are rows of an instance; none while nobody answers."""
    try:
        found = server.rows(
            "SELECT extract(epoch FROM minute)::bigint / 60 FROM hitmesh_statistics WHERE instance = %s ORDER BY 1",
            instance,
        )
    except psycopg.Error:
        return []
    return [int(minute) for (minute,) in found]


def wait_for_minutes(server: Postgres, instance: str, wanted: list[int]) -> None:
    wait_for(lambda: minutes(server, instance) == wanted, within_s=60, what=f"the rows of {instance}")


def written(folder: Path) -> list[Path]:
    """The volumes that have a block."""
    return [one.path for one in volumes_in(folder) if one.size_bytes]


def is_away(mesh: Mesh, name: str = "recorder-1") -> bool:
    return loads(mesh, name).get("database_away_s", 0) > 0


def test_two_recorders_at_once_apply_each_migration_once(mesh: Mesh, server: Postgres) -> None:
    wait_for(lambda: not any(is_away(mesh, name) for name in PAIR), what="both to be connected")
    assert server.rows("SELECT number, name FROM hitmesh_migrations") == [(1, "statistics"), (2, "gaps_by_reason")]


def test_of_many_at_once_one_applies_each_migration_and_nobody_fails(server: Postgres) -> None:
    for trial in range(3):
        server.rows(f"CREATE DATABASE trial{trial}")
        barrier = threading.Barrier(4)

        def apply(url: str, barrier: threading.Barrier = barrier) -> list[int]:
            with psycopg.connect(url, password=server.password, autocommit=True) as connection:
                barrier.wait(30)
                return migrate(connection)

        with ThreadPoolExecutor(4) as pool:
            applied = list(pool.map(apply, [server.url.replace("/postgres", f"/trial{trial}")] * 4))
        assert sorted(number for each in applied for number in each) == [1, 2]


def test_gaps_of_one_moment_are_a_row_for_each_reason(server: Postgres) -> None:
    server.rows("CREATE DATABASE reasons")
    url = server.url.replace("/postgres", "/reasons")
    with psycopg.connect(url, password=server.password, autocommit=True) as connection:
        migrate(connection)
        for why in ("a.records can't be read", "b.records can't be read", "a.records can't be read", "é" * 8192):
            connection.execute(_GAP, ("dc", "recorder-1", 1.0, 2.0, 0, None, why))
        assert connection.execute("SELECT count(*) FROM hitmesh_gaps").fetchone() == (3,)


def test_a_row_is_there_once_whoever_brings_it(mesh: Mesh, server: Postgres) -> None:
    now = this_minute()
    for recorder in (*PAIR, *PAIR):
        with Sender(mesh, recorder, "collector-1") as sender:
            sender.count(now - 1, now, accepted=7.0)
    with Sender(mesh, "recorder-2", "collector-1") as sender:
        sender.count(now + 1, accepted=8.0)
    wait_for_minutes(server, "collector-1", [now - 1, now, now + 1])
    [row] = server.rows(
        "SELECT datacenter, role, figures FROM hitmesh_statistics WHERE instance = 'collector-1' AND extract(epoch FROM minute) = %s",
        now * 60,
    )
    assert row == ("dc-test", "collector", {"accepted": 7})


def test_what_a_dead_database_missed_comes_afterwards_and_the_gap_is_named(mesh: Mesh, server: Postgres) -> None:
    now = this_minute()
    with Sender(mesh, name="collector-2") as sender:
        sender.count(now - 5)
        wait_for_minutes(server, "collector-2", [now - 5])
        server.kill()
        for minute in range(now - 4, now):
            sender.count(minute)
        wait_for(lambda: is_away(mesh), within_s=60, what="the recorder to notice")
        sender.count(now)
        server.start()
        wait_for_minutes(server, "collector-2", list(range(now - 5, now + 1)))
    wait_for(lambda: not is_away(mesh), what="the recorder to say so")
    [(ordered, filled, missing)] = server.rows(
        "SELECT until >= since, filled, missing FROM hitmesh_gaps WHERE recorder = 'recorder-1'"
    )
    assert ordered
    assert filled >= 5, "and those of the mesh's own minute, if it ended meanwhile"
    assert missing == 0


def test_a_recorder_that_was_killed_meanwhile_brings_what_it_had_kept(mesh: Mesh, server: Postgres) -> None:
    now = this_minute()
    with Sender(mesh, name="collector-3") as sender:
        sender.count(now - 30)
        wait_for_minutes(server, "collector-3", [now - 30])
        server.kill()
        before = loads(mesh, "recorder-1")["volumes_bytes"]
        sender.count(*range(now - 29, now + 1))
        wait_for(lambda: loads(mesh, "recorder-1").get("volumes_bytes", 0) > before, what="them to be kept")
    mesh.kill("recorder-1")
    server.start()
    launch(mesh, "recorder-1")
    wait_for_minutes(server, "collector-3", list(range(now - 30, now + 1)))
    [(filled, missing)] = wait_for(
        lambda: server.rows(
            "SELECT filled, missing FROM hitmesh_gaps WHERE recorder = 'recorder-1' AND why LIKE '%recorder was away'"
        ),
        what="the gap to be named",
    )
    assert filled >= 30, "and those of the mesh's own minute, if it ended meanwhile"
    assert missing == 0


def test_a_full_database_is_an_outage_like_any_other(mesh: Mesh, server: Postgres) -> None:
    now = this_minute()
    with small_disk(server.folder / "small", "4m") as disk:
        own(disk)
        server.rows(f"CREATE TABLESPACE small LOCATION '{disk}'")
        for what in ("TABLE hitmesh_statistics", "INDEX hitmesh_statistics_pkey", "INDEX hitmesh_statistics_minute"):
            server.rows(f"ALTER {what} SET TABLESPACE small")
        try:
            with Sender(mesh, name="collector-4") as sender:
                with full(disk):
                    for first in range(now - 400, now, 100):
                        sender.count(*range(first, first + 100), **{f"figure_{n}": 1e9 + n for n in range(40)})
                    wait_for(lambda: is_away(mesh), within_s=60, what="the recorder to notice")
                    assert len(minutes(server, "collector-4")) < 400
                wait_for_minutes(server, "collector-4", list(range(now - 400, now)))
            wait_for(
                lambda: server.rows("SELECT 1 FROM hitmesh_gaps WHERE why LIKE '%No space left%' AND filled > 0"),
                what="the gap to be named",
            )
        finally:
            for what in (
                "TABLE hitmesh_statistics",
                "INDEX hitmesh_statistics_pkey",
                "INDEX hitmesh_statistics_minute",
            ):
                server.rows(f"ALTER {what} SET TABLESPACE pg_default")
            server.rows("CHECKPOINT")
            server.rows("DROP TABLESPACE small")


def test_another_password_is_taken_from_the_file_and_told_nobody(
    mesh: Mesh, server: Postgres, password_file: Path
) -> None:
    now = this_minute()
    before, after = server.password, "another secret of the tests"
    server.rows(f"ALTER ROLE hitmesh PASSWORD '{after}'")
    server.password = after
    server.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'hitmesh %'")
    with Sender(mesh, name="collector-5") as sender:
        sender.count(now)
        wait_for(lambda: "password authentication failed" in mesh.log("recorder-1"), within_s=60, what="a complaint")
        tell(password_file, after)
        wait_for_minutes(server, "collector-5", [now])
    for name in PAIR:
        assert before not in mesh.log(name)
        assert after not in mesh.log(name)


def test_tables_that_were_dropped_together_are_made_and_filled_again_but_for_a_block_that_can_not_be_read(
    mesh: Mesh, server: Postgres
) -> None:
    now = this_minute()
    with Sender(mesh, name="collector-7") as sender:
        sender.count(now)
        [volume, *_] = wait_for(lambda: written(mesh.folder / "dc-test" / "recorder-1"), what="a block")
    with Sender(mesh, name="collector-6") as sender:
        sender.count(now - 1)
        wait_for_minutes(server, "collector-6", [now - 1])
        data = bytearray(volume.read_bytes())
        head = head_of(bytes(data))
        assert head is not None
        data[head.size_bytes - 1] ^= 1
        volume.write_bytes(data)
        server.rows("DROP TABLE hitmesh_migrations, hitmesh_statistics, hitmesh_gaps, hitmesh_recorders")
        sender.count(now)
        wait_for_minutes(server, "collector-6", [now - 1, now])
    found = wait_for(lambda: server.rows("SELECT missing, why FROM hitmesh_gaps WHERE missing IS NULL"), what="the gap")
    assert any(why.startswith("a block can't be read: ") for _, why in found)
