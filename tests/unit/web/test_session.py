from __future__ import annotations

import secrets

import pytest

from regrow.web.session import LIFETIME_S, Session


def test_a_cookie_holds_until_it_ends_and_is_not_the_token() -> None:
    now = [1_000_000.0]
    token = secrets.token_urlsafe(32)
    session = Session(token, lambda: now[0])
    cookie = session.issue()
    assert token not in cookie
    assert session.holds(cookie)
    assert Session(token, lambda: now[0]).holds(cookie), "a restart of the daemon signs nobody out"
    now[0] += LIFETIME_S - 1
    assert session.holds(cookie)
    now[0] += 1
    assert not session.holds(cookie)


def test_a_cookie_of_another_token_or_another_end_is_refused() -> None:
    session = Session(secrets.token_urlsafe(32))
    other = Session(secrets.token_urlsafe(32))
    assert not session.holds(other.issue())
    ends, _, signature = session.issue().partition(".")
    for forged in (f"{int(ends) + 1}.{signature}", f"{ends}.", ends, "", ".", "x.y", "é.é", f"{ends}.{signature}0"):
        assert not session.holds(forged), forged
    assert session.name != other.name


def test_only_the_token_is_the_token() -> None:
    token = secrets.token_urlsafe(32)
    session = Session(token)
    assert session.is_token(token)
    for wrong in ("", token[:-1], token + "x", token.swapcase(), "\udc80"):
        assert not session.is_token(wrong)


def test_a_short_token_guards_nothing() -> None:
    with pytest.raises(ValueError, match="cannot guard the console"):
        Session("")
