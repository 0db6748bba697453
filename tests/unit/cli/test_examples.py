"""The examples in the help: every verb has one, and each is a command line that the command takes."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import click
import pytest
import typer

from regrow.cli.examples import EXAMPLES, shown
from regrow.cli.main import application

COMMAND = typer.main.get_command(application())


def verbs(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every verb that does something, by what is typed."""
    inner = getattr(command, "commands", {})
    if name and (not inner or getattr(command, "invoke_without_command", False)):
        yield name, command
    for word, below in inner.items():
        yield from verbs(below, f"{name} {word}".strip())


def test_every_verb_has_an_example_and_no_example_is_of_another() -> None:
    assert {name for name, _ in verbs(COMMAND)} == set(EXAMPLES)


@pytest.mark.parametrize("verb", EXAMPLES)
def test_an_example_is_taken(verb: str) -> None:
    command = dict(verbs(COMMAND))[verb]
    for line, _ in EXAMPLES[verb]:
        typed = next(part for part in line.split("|") if part.strip().startswith(("regrow", "sudo regrow")))
        words = shlex.split(typed)
        words = words[words.index("regrow") + 1 :]
        assert words[: len(verb.split())] == verb.split()
        command.make_context(verb, words[len(verb.split()) :])
        assert line in shown(verb)
        assert line.split()[0] in command.epilog
