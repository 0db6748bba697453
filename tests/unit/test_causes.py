"""Every failure and every refusal has words of its own and says what to do; what a program printed keeps its error."""

from __future__ import annotations

import ast
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

import regrow
from regrow.catalogue import LANGUAGES, refusal_text, texts
from regrow.errors import NotFound, Refused
from regrow.jobs.base import StepFailed
from regrow.jobs.runner import Runner
from regrow.jobs.work import Work
from regrow.redact import Redactor
from regrow.secret import Secret
from regrow.story import NEXT, plain

SRC = Path(regrow.__file__).parent
ASKED = "requests restores approvals people git releases snapshots admissions permissions jobs/ledger agents/__init__"

ONLY_PROGRAMS = {
    "bad_request": "only a program sends what is refused so; it reads the English text",
    "bad_ref": "the grammar lets no such name through; a program reads the text",
    "no_repository": "the daemon does not start without one",
    "no_commits": "the daemon does not start without one",
    "not_reproduced": "a job's failure, and has words there",
    "empty_build": "a job's failure, and has words there",
    "workspace_taken": "a job's failure",
    "locked": "the daemon does not start",
    "exists": "a job's failure: two seals of one build",
    "not_pushed": "told as the reason why a change could not land",
    "bad_name": "only settings can name a database so",
    "snapshot_failed": "the error says which database, which no other sentence could",
    "not_found": "a program asked for what was never shown",
}


def kinds(*paths: Path, of: frozenset[str]) -> Iterator[str]:
    """The kinds with which these errors are raised in modules."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in of:
                yield from (
                    str(word.value.value)
                    for word in node.keywords
                    if word.arg == "kind" and isinstance(word.value, ast.Constant)
                )


def test_every_failure_of_a_step_has_words() -> None:
    raised = set(kinds(*(SRC / "jobs").glob("*.py"), of=frozenset({"StepFailed"})))
    assert len(raised) > 20
    assert {kind for kind in raised if f"cause.{kind}" not in texts("en")} == set()


def test_every_refusal_of_what_people_ask_has_words() -> None:
    modules = [SRC / f"{name}.py" for name in ASKED.split()]
    raised = set(kinds(*modules, of=frozenset({"Refused", "NotFound"})))
    assert len(raised) > 30
    assert {kind for kind in raised if f"refusal.{kind}" not in texts("en")} - ONLY_PROGRAMS.keys() == set()


def test_every_cause_says_what_to_do_next() -> None:
    causes = {key.removeprefix("cause.") for key in texts("en") if key.startswith("cause.")}
    assert set(NEXT) == causes
    assert {f"next.{step}" for step in NEXT.values()} == {key for key in texts("en") if key.startswith("next.")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_refusal_is_a_mere_no(language: str) -> None:
    """Each says why, and the ones that can be mended say how: a sentence of two parts, or a question."""
    for key, text in texts(language).items():
        if key.startswith("refusal."):
            assert text[0] in "⛔👍🧊", key
            assert len(text) > 10, key


def test_a_refusal_without_its_values_still_says_something() -> None:
    assert refusal_text("zh", Refused("cannot do it", kind="too_often")) == "⛔ 没有执行。原因（原文）: cannot do it"
    assert refusal_text("en", NotFound("cannot find it", kind="never_heard_of")) == "⛔ Not done: cannot find it"
    role = Refused("cannot restart", kind="forbidden", needed="operator")
    assert refusal_text("zh", role) == "⛔ 这件事要操作员或更高的角色才能做，请找所有者。"


@pytest.mark.parametrize(
    ("cause", "zh"),
    [
        ("exit code 1: KeyError: 'x'", "退出码 1: KeyError: 'x'"),
        ("exit code 0", "退出码 0"),
        ("killed by SIGSEGV", "被信号 SIGSEGV 终止"),
        ("killed by SIGKILL (out of memory: the limit of its control group)", "被信号 SIGKILL 终止（内存不足）"),
        ("probe health: HTTP 500", "探针 health: HTTP 500"),
        ("probe talk: no answer within 0.5 s", "探针 talk: 0.5 秒内没有应答"),
        ("something else", "something else"),
    ],
)
def test_how_a_process_died_in_the_readers_language(cause: str, zh: str) -> None:
    assert plain("zh", cause) == zh
    assert plain("en", cause).startswith(cause.partition(" (out")[0])


def test_f31_the_value_of_a_secret_is_gone_and_the_error_is_kept() -> None:
    token = secrets.token_hex(12)
    noise = "\n".join(f"compiling part {number}" for number in range(5000))
    log = f"{noise}\nsrc/a.c:3:1: error: cannot fetch with {token}\nmake: *** [all] Error 2\n{noise}"
    work = SimpleNamespace(care=SimpleNamespace(redactor=Redactor([Secret(token)], home=Path("/nonexistent"))))
    error = StepFailed(f"cannot build: fetching with {token} failed", kind="build_failed", log=log)
    found: dict[str, Any] = Runner._failure(cast(Work, work), error, "build")
    assert token not in repr(found)
    assert found["decisive"].startswith("src/a.c:3:1: error: cannot fetch with ")
    assert found["text"].startswith("cannot build: fetching with ")
