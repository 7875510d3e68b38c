from __future__ import annotations

import os
from pathlib import Path

from balancer.vip.place import is_here
from balancer.vip.word import Beat, Said, Stage, Word, read


def test_what_master_and_workers_say_is_read(tmp_path: Path) -> None:
    word = Word(tmp_path / "dc" / "balancer-1.vip")
    word.tell(workers=2, stage=Stage.LEAVES)
    word.beat(1, now=7.0, reached_at=6.0)
    assert read(tmp_path / "dc" / "balancer-1.vip") == Said(os.getpid(), Stage.LEAVES, (Beat(0.0, 0.0), Beat(7.0, 6.0)))
    assert word.stage() == Stage.LEAVES
    word.close()


def test_its_layout_stays(tmp_path: Path) -> None:
    word = Word(tmp_path / "word")
    word.tell(workers=1, stage=Stage.GONE)
    word.beat(0, now=1.0, reached_at=0.5)
    word.close()
    pid = os.getpid().to_bytes(4, "little").hex()
    assert (tmp_path / "word").read_bytes().hex() == (
        "6869746d76697031" + pid + "01000000" + "02" + "00" * 15 + "000000000000f03f" + "000000000000e03f"
    )


def test_nothing_and_what_nobody_understands_are_no_word(tmp_path: Path) -> None:
    assert read(tmp_path / "missing") is None
    for text in (b"", b"hitmvip1", b"hitmvip2" + bytes(60), b"hitmvip1" + bytes(4) + b"\xff" * 60):
        (tmp_path / "word").write_bytes(text)
        assert read(tmp_path / "word") is None
    (tmp_path / "word").unlink()
    word = Word(tmp_path / "word")
    assert word.stage() == Stage.SERVES
    word.close()


def test_an_address_is_here_or_elsewhere() -> None:
    assert is_here("127.0.0.1")
    assert is_here("::1")
    assert not is_here("192.0.2.7")
    assert not is_here("2001:db8::7")
