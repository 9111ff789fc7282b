"""What /proc says of a process, as the footprint benchmark reads it."""

from benchmarks.footprint import Footprint, Resident, resident_memory, summary

_STATUS = """\
Name:\ttritonserver
VmRSS:\t     700 kB
RssAnon:\t     400 kB
RssFile:\t     290 kB
RssShmem:\t      10 kB
"""
_MAPS = """\
7f0000000000-7f0000010000 rw-p 00000000 00:00 0
Rss:                 400 kB
7f0000010000-7f0000020000 r--p 00000000 08:01 42                         /models/chat/1/model.onnx.data
Size:                500 kB
Rss:                 100 kB
Pss:                 100 kB
7f0000020000-7f0000030000 r--p 00010000 08:01 42                         /models/chat/1/model.onnx.data
Rss:                  50 kB
7f0000030000-7f0000040000 r-xp 00000000 08:01 43                         /lib/libc.so.6
Rss:                 140 kB
"""


def test_resident_memory_is_read_by_kind_and_the_weights_over_all_their_mappings() -> None:
    found = resident_memory(_STATUS, _MAPS, "chat/1/model.onnx.data")
    assert found == Resident(400 << 10, 290 << 10, 10 << 10, 150 << 10)
    assert found.total_bytes == 700 << 10


def test_the_ratio_counts_the_server_and_the_own_ratio_does_not() -> None:
    before, used = Resident(10, 20, 0, 0), Resident(100, 30, 0, 25)
    result = Footprint("chat", 40, 60, [1.0], [0.5], before, before, used)
    assert (result.ratio, result.own_ratio) == (1.3, 1.0)
    assert "| chat | pool full |" in summary([result])
