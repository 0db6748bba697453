"""C3: events in several frames."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.channels.feishu.frames import DATA, Frame
from regrow.channels.feishu.parts import Parts


def part(payload: bytes, seq: object, total: object, key: str = "m") -> Frame:
    return Frame(method=DATA, headers=(("message_id", key), ("sum", str(total)), ("seq", str(seq))), payload=payload)


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.time = 5.0

    def monotonic(self) -> float:
        return self.time

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds


@settings(deadline=None)
@given(st.text(min_size=1), st.integers(1, 7), st.randoms())
def test_c3_any_cut_in_any_order_gives_the_whole_once(text: str, pieces: int, random) -> None:  # type: ignore[no-untyped-def]
    payload = text.encode()
    size = -(-len(payload) // pieces)
    cuts = [payload[at : at + size] for at in range(0, len(payload), size)]
    order = list(enumerate(cuts))
    random.shuffle(order)
    parts = Parts(Clock())
    results = [parts.add(part(cut, seq, len(cuts))) for seq, cut in order]
    assert results == [None] * (len(cuts) - 1) + [payload]
    assert len(parts) == 0


def test_c3_bad_figures_are_dropped() -> None:
    parts = Parts(Clock())
    bad = [(0, 0), (2, 2), (-1, 2), ("x", 2), (0, "x"), (0, -1), (0, 10**9), ("٣", 5), (0, "")]
    assert [parts.add(part(b"x", seq, total)) for seq, total in bad[:-1]] == [None] * (len(bad) - 1)
    assert len(parts) == 0
    # Without figures it is one frame.
    assert parts.add(Frame(method=DATA, payload=b"x")) == b"x"


def test_c3_another_sum_does_not_spoil_the_event_and_a_repeated_part_replaces() -> None:
    parts = Parts(Clock())
    assert parts.add(part(b"a", 0, 2)) is None
    assert parts.add(part(b"?", 1, 3)) is None
    assert parts.add(part(b"A", 0, 2)) is None
    assert parts.add(part(b"b", 1, 2)) == b"Ab"


def test_c3_what_never_comes_whole_is_forgotten() -> None:
    clock = Clock()
    parts = Parts(clock)
    parts.add(part(b"a", 0, 2))
    clock.time += 60
    assert parts.add(part(b"b", 1, 2)) is None
    assert parts.add(part(b"a", 0, 2)) == b"ab"


def test_c3_memory_is_bounded_in_events_and_bytes() -> None:
    parts = Parts(Clock())
    for number in range(500):
        parts.add(part(b"x", 0, 2, f"m{number}"))
    assert len(parts) <= 64
    for number in range(20):
        parts.add(part(b"x" * 2**20, 0, 2, f"big{number}"))
    assert parts.size <= 16 * 2**20


def test_an_empty_part_counts() -> None:
    parts = Parts(Clock())
    assert parts.add(part(b"", 0, 2)) is None
    assert parts.add(part(b"x", 1, 2)) == b"x"
