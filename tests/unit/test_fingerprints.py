"""The same failure has the same name, whatever numbers, ids, times and paths are in it; another one has another."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.fingerprints import LONGEST, decisive, fingerprint, frames, normalised, signature


def python(line: int, path: str, text: str) -> list[str]:
    return [
        f"2026-11-25 15:52:{line % 60:02d},123 ERROR request {line} failed",
        "Traceback (most recent call last):",
        f'  File "{path}/serve.py", line {line}, in handle',
        "    answer(request)",
        f'  File "{path}/orders.py", line {line + 3}, in total',
        "    raise ValueError(text)",
        f"ValueError: {text}",
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("user 12 not found", "user 998 not found"),
        ("2026-11-25T15:52:31.123Z ERROR no answer", "2026-11-26T03:00:00Z ERROR no answer"),
        ("Nov 25 15:52:31 no answer", "Dec  1 01:02:03 no answer"),
        ("at 0x7f03ab12cd40", "at 0xdeadbeef"),
        ("job 1b4e28ba-2fa1-11d2-883f-0016d3cca427 failed", "job 6fa459ea-ee8a-3ca4-894e-db77e160355e failed"),
        ("request req-8f3a2b91 failed", "request req-1199aabb failed"),
        ("cannot open /var/lib/claw/r12/data.db", "cannot open /tmp/x/y.db"),
        ("took 1.52s", "took 30.0s"),
        ("commit 1f2e3d4c5b", "commit 99aabbccdd"),
        ("\x1b[31mERROR\x1b[0m no answer", "ERROR no answer"),
        ("第 12 次重试失败", "第 3 次重试失败"),
    ],
)
def test_what_differs_each_time_is_taken_out(one: str, other: str) -> None:
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("KeyError: 'name'", "KeyError: 'address'"),
        ("ValueError: no figure", "TypeError: no figure"),
        ("cannot connect", "cannot listen"),
        ("killed by SIGSEGV", "killed by SIGABRT"),
    ],
)
def test_what_says_what_went_wrong_stays(one: str, other: str) -> None:
    assert normalised(one) != normalised(other)


def test_a_traceback_is_known_by_its_exception_and_frames_not_by_lines_and_places() -> None:
    one = python(10, "/srv/claw/r1", "no price for item 7")
    assert signature(one) == signature(python(99, "/srv/claw/r2", "no price for item 12"))
    assert signature(one).split("\n") == ["ValueError: no price for item <n>", "serve.py:handle", "orders.py:total"]
    assert signature(one) != signature(python(10, "/srv/claw/r1", "no customer 7"))
    elsewhere = [line.replace("in total", "in price") for line in one]
    assert signature(one) != signature(elsewhere)


@pytest.mark.parametrize(
    ("lines", "said", "shown"),
    [
        (
            ["thread 'main' panicked at src/main.rs:4:10:", "index out of bounds: the len is 3", "note: run with"],
            "panicked at src/main.rs:4:10: index out of bounds: the len is 3",
            [],
        ),
        (
            ["panic: assignment to entry in nil map", "", "goroutine 1 [running]:", "main.put(0x1, 0x2)"],
            "panic: assignment to entry in nil map",
            ["main.put"],
        ),
        (
            ["TypeError: x is not a function", "    at run (/srv/app/index.js:10:3)", "    at main.js:1:1"],
            "TypeError: x is not a function",
            ["index.js:run", "main.js"],
        ),
        (
            [
                "Traceback (most recent call last):",
                '  File "a.py", line 1, in first',
                "KeyError: 'a'",
                "",
                "During handling of the above exception, another exception occurred:",
                "",
                "Traceback (most recent call last):",
                '  File "b.py", line 2, in second',
                "RuntimeError: no a",
            ],
            "RuntimeError: no a",
            ["b.py:second"],
        ),
        (["ERROR no answer"], "ERROR no answer", []),
        ([], "", []),
    ],
)
def test_the_decisive_line_and_the_frames_of_each_language(lines: list[str], said: str, shown: list[str]) -> None:
    assert decisive(lines) == said
    found = frames(lines)
    assert [one.strip(":<n>") for one in found] == [one.strip(":<n>") for one in shown]


def test_kinds_do_not_share_a_fingerprint() -> None:
    assert fingerprint("crash", "x") != fingerprint("errors", "x")
    assert re.fullmatch(r"[0-9a-f]{12}", fingerprint("crash", "x"))


@given(st.text(max_size=2000))
def test_any_line_becomes_a_short_one_without_figures(line: str) -> None:
    found = normalised(line)
    assert len(found) <= LONGEST
    assert not any(one.isdecimal() for one in found)
    assert "\n" not in found
    assert normalised(found) == normalised(normalised(found))


WORDS = st.lists(st.sampled_from(["cannot", "open", "user", "no", "answer", "价格", "failed:"]), min_size=1, max_size=8)


@given(WORDS, st.integers(0, 10**12), st.integers(0, 10**12), st.uuids(), st.uuids())
def test_numbers_and_ids_between_words_make_no_difference(
    words: list[str], one: int, other: int, first: object, second: object
) -> None:
    def said(number: int, name: object) -> str:
        return " ".join([f"{number} {word} {name}" for word in words])

    assert fingerprint("errors", signature([said(one, first)])) == fingerprint(
        "errors", signature([said(other, second)])
    )


@given(st.lists(st.text(max_size=300), max_size=60))
def test_any_lines_have_a_signature_of_a_few_lines(lines: list[str]) -> None:
    assert len(signature(lines).split("\n")) <= 5
    assert len(decisive(lines)) <= 2 * LONGEST + 30
