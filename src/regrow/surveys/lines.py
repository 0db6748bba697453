"""Command lines that somebody else wrote: of a Procfile, an image, a script; read as argv, and never run."""

from __future__ import annotations

import json
import re
import shlex

from regrow.surveys.base import Tree

PORT = r"(?P<port>[1-9]\d{1,4})"
_SHELL = re.compile(r"[;&|<>`(){}*?~\n]")
_VARIABLE = re.compile(r"\$\{?(\w+)(?::-(\w+))?\}?")


def words_of(line: str, port: str = "") -> tuple[str, ...] | None:
    """A command line as argv; None where only a shell would understand it.

    Args:
        line: as somebody wrote it.
        port: what stands for $PORT; "": a line that asks for it is not understood.
    """

    def put(match: re.Match[str]) -> str:
        return (port or match[2] or match[0]) if match[1] == "PORT" else match[0]

    line = _VARIABLE.sub(put, line)
    if _SHELL.search(line) or "$" in line:
        return None
    try:
        words = shlex.split(line)
    except ValueError:
        return None
    if not words or "=" in words[0]:
        return None
    return tuple(words[1:] if words[0] == "exec" else words)


def procfile(tree: Tree) -> str:
    """The line of the web process of a Procfile, or ""."""
    text = tree.texts.get("Procfile", "")
    found = re.search(r"^web:[ \t]*(.+)$", text, re.MULTILINE) or re.search(r"^worker:[ \t]*(.+)$", text, re.MULTILINE)
    return found[1].strip() if found else ""


def image_command(tree: Tree) -> str:
    """What the last stage of a Dockerfile at the root starts, as one line; "" where that is not plain."""
    text = re.sub(r"\\\r?\n", " ", tree.texts.get("Dockerfile", tree.texts.get("Containerfile", "")))
    line = {"CMD": "", "ENTRYPOINT": ""}
    for match in re.finditer(r"^\s*(FROM|CMD|ENTRYPOINT)\s+(.+)$", text, re.MULTILINE | re.IGNORECASE):
        what, said = match[1].upper(), match[2].strip()
        if what == "FROM":
            line = dict.fromkeys(line, "")
        elif said.startswith("["):
            try:
                line[what] = shlex.join(str(one) for one in json.loads(said))
            except (ValueError, TypeError):
                line[what] = ""
        else:
            line[what] = said
    return f"{line['ENTRYPOINT']} {line['CMD']}".strip()


def exposed(tree: Tree) -> str:
    """The only port that a Dockerfile at the root exposes, or ""."""
    text = tree.texts.get("Dockerfile", tree.texts.get("Containerfile", ""))
    ports = set(re.findall(rf"^\s*EXPOSE\s+{PORT}(?:/tcp)?\s*$", text, re.MULTILINE | re.IGNORECASE))
    return ports.pop() if len(ports) == 1 else ""


def shell(script: str, *words: str) -> tuple[str, ...]:
    """argv of a line for sh that ends at the first failure; $0, $1 ... are the words."""
    return ("sh", "-ec", script, *words)
