"""How a page is made: its language, its template, and the few figures a template shows."""

from __future__ import annotations

import functools
import json
import time
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from regrow.catalogue import Language, accepted_language, known_language, languages
from regrow.web import words

LANGUAGE_COOKIE = "regrow_language"
ROOMS = (
    ("/", "conversation"),
    ("/overview", "overview"),
    ("/jobs", "jobs"),
    ("/incidents", "incidents"),
    ("/releases", "releases"),
    ("/audit", "audit"),
)
"""The pages that every page leads to, by path and word."""
_YEAR_S = 365 * 86400
_TAGS = {"zh": "zh-CN"}
"""What browsers and screen readers call a language, where it is not its own name."""


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("regrow.web"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def language_of(request: Request, otherwise: Language) -> Language:
    """The language of a request: asked for by ?lang=, chosen before, wanted by the browser, or the default."""
    return (
        known_language(request.query_params.get("lang"))
        or known_language(request.cookies.get(LANGUAGE_COOKIE))
        or accepted_language(request.headers.get("accept-language", ""))
        or otherwise
    )


def page(request: Request, template: str, otherwise: Language, *, code: int = 200, **context: Any) -> HTMLResponse:
    """One page in the request's language; a language asked for by ?lang= is remembered in a cookie.

    Args:
        template: file name in templates/.
        otherwise: the language when the request names none.
        context: what the template shows.
    """
    language = language_of(request, otherwise)
    text = (
        _templates()
        .get_template(template)
        .render(
            language=language,
            others=[(each, _TAGS.get(each, each), functools.partial(words.say, each)) for each in _others(language)],
            tag=_TAGS.get(language, language),
            words_json=json.dumps(dict(words.words(language)), ensure_ascii=False),
            say=functools.partial(words.say, language),
            duration=functools.partial(words.duration, language),
            size=words.size,
            iso=_iso,
            clock=_clock,
            now=time.time(),
            path=request.url.path,
            query_with_language=functools.partial(_query, request),
            known_words=words.words(language),
            **context,
        )
    )
    response = HTMLResponse(
        text, status_code=code, headers={"content-language": language, "vary": "cookie, accept-language"}
    )
    if known_language(request.query_params.get("lang")):
        response.set_cookie(LANGUAGE_COOKIE, language, max_age=_YEAR_S, samesite="strict", httponly=True)
    return response


def _others(language: Language) -> list[Language]:
    return [each for each in languages() if each != language]


def refusal(
    request: Request,
    otherwise: Language,
    code: int,
    title: str,
    text: str,
    *,
    link: bool = False,
    hint: bool = True,
    **fields: object,
) -> HTMLResponse:
    """A plain page that says why there is nothing else to see.

    Args:
        title, text: keys of the words; the hint is the text's key with "_hint".
        link: offer a way to the conversation.
        fields: fill the text.
    """
    context = {"title_key": title, "text_key": text, "hint": hint, "link": link, "fields": fields}
    return page(request, "refusal.html", otherwise, code=code, **context)


def _query(request: Request, language: Language) -> str:
    """The query of this page in another language."""
    return urlencode(
        [*((name, value) for name, value in request.query_params.multi_items() if name != "lang"), ("lang", language)]
    )


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def _clock(at: float) -> str:
    # The browser shows its own local time; this is what is read without scripts.
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
