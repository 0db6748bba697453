"""Known secrets in what an agent is about to send: the seed's first "never" (F38).

What can be promised is the value itself and the forms in which programs write it: those of `redact.py`, behind escapes
(`\\u0041`, `%41`, `&#65;`), broken over lines or mixed with quotes and blanks, and cut into pieces of one message. An
agent that means to hide a value can encrypt it: against that stands the box, in which the files with secrets are empty.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from regrow.errors import Refused
from regrow.redact import Redactor
from regrow.secret import Secret

_SHORTEST = 12
"""Letters and digits of a value that is looked for without its punctuation; fewer would be found by chance."""
_ESCAPES = re.compile(r"\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([0-7]{3})|([nrtbf]))")
_BARE = re.compile(r"[\W_]+")
_NO_TEXT = frozenset({"type", "id", "role", "tool_use_id", "tool_call_id", "signature"})
_REMEMBERED = 50_000


class Leaks:
    """Finds and removes known values in the requests of one agent.

    A conversation is sent again with every request: a text that was looked at is known by its digest, so that each is
    looked at once.

    Args:
        known: values by a name that may be told, as "env:CLAW_API_KEY".
    """

    def __init__(self, known: Mapping[str, Secret]) -> None:
        self._known = {name: Redactor([value]) for name, value in known.items()}
        self._redactor = Redactor(known.values())
        self._bare = {bare: name for name, value in known.items() for bare in _bares(value.reveal())}
        self._clean: set[bytes] = set()

    def find(self, text: str) -> str:
        """The name of a value that a text holds in some form, or ""."""
        if len(text) < 4:
            return ""
        digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if digest in self._clean:
            return ""
        plain = _unescaped(text)
        for one in dict.fromkeys((text, plain)):
            if self._redactor.known(one) != one:
                return next((name for name, alone in self._known.items() if alone.known(one) != one), "a known secret")
        for one in dict.fromkeys((text, plain)):
            bare = _BARE.sub("", one).casefold()
            for value, name in self._bare.items():
                if value in bare:
                    return name
        if len(self._clean) >= _REMEMBERED:
            self._clean.clear()
        self._clean.add(digest)
        return ""

    def check(self, body: Any) -> str:
        """The name of a value that a request holds anywhere, also cut into pieces of one message, or ""."""
        for text in _texts(body):
            if name := self.find(text):
                return name
        groups = [body] if not isinstance(body, dict) else [*body.values()]
        while groups:
            group = groups.pop()
            if isinstance(group, list) and group and all(isinstance(one, dict) and "role" in one for one in group):
                groups += group
            elif name := self.find("".join(_pieces(group))):
                return name
        return ""

    def redact(self, body: Any) -> Any:
        """The request with "[redacted]" in the place of every known value that stands in it plainly.

        Raises:
            Refused: kind "model_secret", when one stands in it in a way that cannot be taken out.
        """
        cleaned = self._replaced(body)
        if name := self.check(cleaned):
            raise refusal(name)
        return cleaned

    def _replaced(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._redactor.known(value) if self.find(value) else value
        if isinstance(value, list):
            return [self._replaced(one) for one in value]
        if isinstance(value, dict):
            return {name: self._replaced(one) for name, one in value.items()}
        return value


def refusal(name: str) -> Refused:
    """Why a request with a known secret is not sent; tells the secret's name and never its value."""
    return Refused(
        f"cannot send this to the model: it holds the value of {name}; take it out of the conversation, "
        "and look at where the agent got it from",
        kind="model_secret",
        secret=name,
    )


def _texts(value: Any) -> Iterator[str]:
    """Every text in a request, names of fields and numbers included."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += [*one.values(), *one]
        elif isinstance(one, list):
            waiting += one
        elif isinstance(one, int | float) and not isinstance(one, bool):
            yield str(one)


def _pieces(value: Any) -> Iterator[str]:
    """The texts of a message in their order, without the words of the protocol between them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for one in value:
            yield from _pieces(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name not in _NO_TEXT:
                yield from _pieces(one)


def _unescaped(text: str) -> str:
    """A text with its escapes resolved, twice: JSON stands in JSON."""
    for _ in range(2):
        before = text
        if "\\" in text:
            text = _ESCAPES.sub(_character, text)
        if "%" in text:
            text = unquote(text, errors="replace")
        if "&" in text:
            text = html.unescape(text)
        if text == before:
            break
    return text


def _character(escape: re.Match[str]) -> str:
    if escape[4]:
        return " "
    return chr(int(escape[3], 8) if escape[3] else int(escape[1] or escape[2], 16))


def _bares(value: str) -> set[str]:
    """A value and its encodings without punctuation and case."""
    raw = value.encode("utf-8", "surrogatepass")
    # Escapes of single bytes give what UTF-8 looks like to who takes it for Latin-1.
    forms = [value, value[::-1], raw.hex(), raw.decode("latin-1")]
    for shift in range(3):
        # The characters at either end also belong to what stands beside the value.
        encoded = base64.b64encode(b"\0" * shift + raw).decode()
        forms.append(encoded[(0, 2, 3)[shift] : (shift + len(raw)) * 8 // 6])
    return {bare for form in forms if len(bare := _BARE.sub("", form).casefold()) >= _SHORTEST}
