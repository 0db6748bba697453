"""Lines of one error are held together, and a sudden rise is told from the usual noise."""

from __future__ import annotations

import json
import random

from hypothesis import given
from hypothesis import strategies as st

from regrow.incidents import PATTERNS
from regrow.log_errors import ALL, LONGEST_LINE, Blocks, Rates

TRACE = """\
ERROR request 7 failed
Traceback (most recent call last):
  File "serve.py", line 3, in handle
    total()
ValueError: no price

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "serve.py", line 9, in handle
RuntimeError: no answer"""
PANIC = """\
thread 'main' panicked at src/main.rs:4:10:
index out of bounds
note: run with `RUST_BACKTRACE=1`"""
JAVA = """\
Exception in thread "main" java.lang.IllegalStateException: no
\tat a.B.c(B.java:12)
Caused by: java.io.IOException: closed
\tat a.D.e(D.java:3)
\t... 2 more"""


def blocks(text: str, *, chunks: int = 1) -> list[str]:
    lines = text.splitlines()
    made = Blocks(PATTERNS)
    found = []
    for at in range(0, len(lines), chunks):
        found += made.feed(lines[at : at + chunks])
    return ["\n".join(block.lines) for block in [*found, *made.flush()]]


def test_each_error_is_one_block_between_lines_that_are_none() -> None:
    text = (
        f"INFO begin\n{TRACE}\nINFO between\n{PANIC}\n127.0.0.1 GET / 200\n{JAVA}\nERROR alone\nERROR alone\nINFO end"
    )
    wanted = [TRACE, PANIC, JAVA, "ERROR alone", "ERROR alone"]
    for chunks in (1, 2, 7, 1000):
        assert blocks(text, chunks=chunks) == wanted


def test_a_block_without_end_keeps_its_head_and_its_tail() -> None:
    (block,) = blocks("ERROR it goes on\n" + "\n".join(f"  line {number}" for number in range(100_000)))
    lines = block.split("\n")
    assert len(lines) <= 60
    assert lines[0] == "ERROR it goes on"
    assert lines[-1] == "  line 99999"


def test_a_line_without_end_is_cut() -> None:
    (block,) = blocks("ERROR " + "x" * 10**6)
    assert len(block) == LONGEST_LINE


@given(
    st.lists(st.one_of(st.sampled_from([*TRACE.split("\n"), *PANIC.split("\n"), "", "INFO x"]), st.text(max_size=80)))
)
def test_any_lines_are_taken_and_none_is_invented(lines: list[str]) -> None:
    made = Blocks(PATTERNS)
    known = {line[:LONGEST_LINE].rstrip() for line in lines}
    for block in [*made.feed(lines), *made.flush()]:
        assert block.lines
        assert set(block.lines) <= known


def rates(least: int = 5, factor: float = 3.0) -> Rates:
    made = Rates(window_s=300, baseline_s=3600, least=least, factor=factor)
    made.watched(0.0)
    return made


def test_few_errors_are_no_jump_and_five_at_once_are() -> None:
    made = rates()
    for number in range(5):
        assert not made.jumped("a", 10_000)
        made.count("a", 10_000 - number)
    assert made.jumped("a", 10_000)
    assert not made.jumped("a", 10_400), "they are over"
    assert not made.jumped("b", 10_000)


def test_the_usual_noise_is_no_jump_and_three_times_as_much_is() -> None:
    made = rates()
    for at in range(0, 20_000, 30):
        made.count("a", at)
    assert not made.jumped("a", 20_000)
    for number in range(40):
        made.count("a", 20_000 - number)
    assert made.jumped("a", 20_000)


def test_what_is_usual_is_learned() -> None:
    """An hour after it began the new rate is what is usual."""
    made = rates()
    for at in range(10_000, 20_000, 10):
        made.count("a", at)
    assert not made.jumped("a", 20_000)


def test_a_jump_of_all_kinds_together_is_seen() -> None:
    made = rates()
    for number in range(30):
        made.count(f"kind {number}", 10_000 + number)
    assert made.jumped(ALL, 10_030)
    assert not made.jumped("kind 3", 10_030)


def test_memory_is_bounded_and_survives_as_json() -> None:
    made = rates()
    rng = random.Random(1)
    for number in range(20_000):
        made.count(f"kind {rng.randrange(5000)}", number)
    kept = json.dumps(made.to_json())
    assert len(kept) < 200_000
    again = rates()
    again.restore(json.loads(kept))
    assert again.to_json() == made.to_json()
    other = Rates(window_s=60, baseline_s=3600, least=5, factor=3)
    other.restore(json.loads(kept))
    assert other.recent(ALL, 20_000) == 0, "counted in other parts"


@given(st.lists(st.floats(0, 10_000), max_size=60), st.integers(1, 10))
def test_a_jump_is_never_fewer_than_the_least(times: list[float], least: int) -> None:
    made = rates(least)
    for at in sorted(times):
        made.count("a", at)
    now = max(times, default=0.0)
    assert made.recent("a", now) <= len(times)
    assert not made.jumped("a", now) or made.recent("a", now) >= least
