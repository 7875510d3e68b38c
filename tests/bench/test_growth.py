"""The table of `bench/run pages`."""

from __future__ import annotations

from bench.growth import Column, table


def test_a_table_has_a_column_for_each_number_of_pages() -> None:
    small = Column(pages=1000, consul_bytes=2_000_000, agree_s=1.25, partitions=19, last_s=0.5, same=True)
    lines = list(table([small, Column(pages=1_000_000)]))
    assert lines[:2] == [
        "| of one of two datacenters | 1,000 pages in each | 1,000,000 pages in each |",
        "|---|---:|---:|",
    ]
    assert "| memory of Consul, at rest | 1.9 MiB, 2,000 bytes a page | 0.0 MiB, 0 bytes a page |" in lines
    assert "| both agree, after the last own commit | 1.2 s | never |" in lines
    assert "| then until all are taken over | 0.50 s (19) | 0.00 s (0) |" in lines
    assert lines[-1] == "| stores equal, page by page, and to the hit | yes | NO |"
    assert all(line.count("|") == 4 for line in lines)
