"""What a job may still use."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config import ModelSection
from regrow.errors import Refused
from regrow.models.account import Account
from regrow.models.usage import Tokens, Usage, cost
from regrow.testing.manual_clock import ManualClock

PRICES = {"m": {"input": 3.0, "output": 15.0}, "small": {"input": 1.0, "output": 5.0, "cache_read": 0.1}}


def settings(**more: Any) -> ModelSection:
    values = {"kind": "anthropic", "models": ["m", "small"], "prices": PRICES, "budget": 1.0}
    return ModelSection.model_validate({**values, **more})


def account(tmp_path: Path, heard: list[Usage] | None = None, **more: Any) -> Account:
    return Account(
        settings(**more), tmp_path / "usage.json", ManualClock(), (heard if heard is not None else []).append
    )


def test_prices() -> None:
    given_ = settings(
        prices={**PRICES, "m": {"input": 3, "output": 15, "cache_read": 0.3, "cache_write": 4, "cache_write_hour": 6}}
    )
    million = 1_000_000
    assert cost(given_, "m", Tokens(million, million, million, million, million)) == pytest.approx(3 + 15 + 0.3 + 4 + 6)
    # What is not set costs as input does, and an hour's cache as a minute's.
    assert cost(given_, "small", Tokens(0, 0, million, million, million)) == pytest.approx(0.1 + 1 + 1)
    assert cost(settings(budget=0, prices={}), "m", Tokens(million)) == 0


async def test_what_is_written_right_now_counts(tmp_path: Path) -> None:
    heard: list[Usage] = []
    books = account(tmp_path, heard)
    one = await books.begin("m", 80)
    two = await books.begin("small", 80)
    books.count(one, Tokens(1000, 1000))
    books.count(two, Tokens(1000, 1000, estimated=True))
    used = books.usage
    assert (used.requests, used.input, used.output, used.estimated) == (2, 2000, 2000, True)
    assert used.cost == pytest.approx(0.018 + 0.006)
    await books.end(one)
    await books.end(two)
    assert books.usage == used
    assert heard[-1] == used


async def test_attempts_side_by_side_share_one_budget(tmp_path: Path) -> None:
    books = account(tmp_path)
    one = await books.begin("m", 80)
    two = await books.begin("m", 80)
    books.count(one, Tokens(output=40_000))
    assert not books.spent()
    books.count(two, Tokens(output=30_000))
    assert books.spent() == "1.05 of 1.00 USD are spent"
    with pytest.raises(Refused, match=r"cannot go on with the model: 1\.05 of 1\.00 USD are spent"):
        books.admit("m", 10)


async def test_what_a_job_has_used_is_read_again(tmp_path: Path) -> None:
    books = account(tmp_path)
    await books.end(await books.begin("m", 80))
    entry = await books.begin("m", 8000)
    books.count(entry, Tokens(input=2, output=3))
    await books.save()
    again = account(tmp_path)
    await again.load()
    assert again.usage == books.usage
    books.refuse()
    await books.end(entry)
    await again.load()
    assert again.usage == books.usage
    assert again.usage.refused == 1


@given(st.lists(st.integers(0, 200_000), max_size=12), st.integers(1, 60))
def test_no_request_begins_after_the_budget(outputs: list[int], cents: int) -> None:
    books = Account(settings(budget=cents / 100), Path("/nowhere"), ManualClock(), lambda _: None)
    for output in outputs:
        before = books.usage.cost
        try:
            books.admit("m", 100)
        except Refused:
            assert before > cents / 100 - 0.001
        else:
            assert before < cents / 100
            books._settled = books._settled.plus(Tokens(output=output), cost(settings(), "m", Tokens(output=output)))


def test_how_long_an_answer_may_be(tmp_path: Path) -> None:
    assert account(tmp_path, budget=0.15).affordable("m", 0) == 10_000
    assert account(tmp_path, budget=0.15, budget_tokens=500).affordable("m", 800) == 400
    assert account(tmp_path, budget=0).affordable("m", 0) is None


async def test_pace(tmp_path: Path) -> None:
    clock = ManualClock()
    books = Account(settings(per_minute=2), tmp_path / "u", clock, lambda _: None)
    await books.pace()
    clock.advance(30)
    await books.pace()
    clock.advance(31)
    await books.pace()  # the first is more than a minute ago
    waiting = [asyncio.create_task(books.pace()) for _ in range(2)]
    await clock.asleep(2)
    with pytest.raises(Refused) as caught:
        await books.pace()
    assert caught.value.kind == "model_pace"
    assert caught.value.values == {"after_s": 89}
    clock.advance(29)
    await waiting[0]
    assert not waiting[1].done()
    clock.advance(31)
    await waiting[1]
    unlimited = Account(settings(per_minute=0), tmp_path / "u", clock, lambda _: None)
    for _ in range(500):
        await unlimited.pace()


async def test_an_answer_is_not_cut_for_what_its_request_may_not_have_cost(tmp_path: Path) -> None:
    books = account(tmp_path, budget=0.05)
    entry = await books.begin("small", 80)
    books.count(entry, Tokens(input=100_000, output=100, estimated=True, guessed_input=True))
    assert books.usage.cost > 0.1
    assert not books.spent()  # all of it may have come from the cache, for a tenth
    books.count(entry, Tokens(input=100_000, output=100, estimated=True))
    assert books.spent()
    await books.end(entry)
    # Whoever never says is taken at its dearest.
    other = account(tmp_path, budget=0.05)
    entry = await other.begin("small", 80)
    other.count(entry, Tokens(input=100_000, estimated=True, guessed_input=True))
    await other.end(entry)
    assert other.spent() == "0.1000 of 0.0500 USD are spent"
