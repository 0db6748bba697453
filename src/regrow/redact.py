"""Text without secrets, for every sink: chat, web, store, logs, commits (F31, F38).

Known values go first, exactly and in the forms output gives them (base64, percent, JSON, hex, HTML, shell); that is
what can be promised. Rules for secrets nobody told us of come second and are a net with holes. Both remove only the
value: the sentence around it, which says what went wrong, stays. Paths are shortened for chat by `shorten_paths`.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

from regrow.secret import REDACTED, Secret

SHORTEST = 6
"""Characters; a known value of fewer is ignored, because it would be found everywhere."""

_NAME = (
    r"pass(?:word|wd|phrase|code)|pwd|pswd|(?:[_-]|\b)pass|secret(?:[_-]?(?:key|token|access[_-]?key))?|token"
    r"|(?:api|app|access|private|auth|encrypt(?:ion)?|signing|license|master|session|service|client|webhook|shared)[_-]?key"
    r"|credentials?|client[_-]?secret|app[_-]?secret|webhook[_-]?secret"
)
_TOKENS = (
    r"gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,}|gl(?:pat|rt|ptt|dt)-[A-Za-z0-9_.-]{18,}"
    r"|xox[a-z]-[A-Za-z0-9-]{10,}|xapp-\d-[A-Za-z0-9-]{20,}|sk-(?:ant-|proj-|or-|svcacct-)?[A-Za-z0-9_-]{20,}"
    r"|[srp]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9+/=]{20,}|(?:AKIA|ASIA)[0-9A-Z]{16}|AIza[0-9A-Za-z_-]{35}"
    r"|ya29\.[0-9A-Za-z_-]{20,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{40,}|hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{30,}"
    r"|SG\.[A-Za-z0-9_-]{16,64}\.[A-Za-z0-9_-]{16,}|shp(?:at|ss|ca)_[a-fA-F0-9]{32}|do[opr]_v1_[a-f0-9]{40,}"
    r"|AGE-SECRET-KEY-1[0-9A-Z]{40,}|\d{8,10}:AA[A-Za-z0-9_-]{33}"
    r"|eyJ[A-Za-z0-9_-]{8,999}\.eyJ[A-Za-z0-9_-]{8,9999}\.[A-Za-z0-9_-]*"
)
# A line without any of these holds nothing that a rule would find; `in` is much faster than a pattern.
_TRIGGERS = (
    "pass", "pwd", "pswd", "secret", "token", "key", "credential", "authorization", "bearer ", "basic ", "cookie",
    "://", "-----", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "glrt-", "glptt-", "gldt-",
    "xox", "xapp-", "sk-", "_live_", "_test_", "whsec_", "akia", "asia", "aiza", "ya29.", "npm_", "pypi-", "hf_",
    "gsk_", "sg.", "shpat_", "shpss_", "shpca_", "_v1_", ":aa", "eyj",
)  # fmt: skip
_PROSE = frozenset({
    "none", "null", "nil", "true", "false", "required", "missing", "invalid", "expired", "undefined", "unset",
    "empty", "unknown", "string", "str", "bytes", "int", "bool", "object", "optional", "hidden", "masked",
    "redacted", "changeme", "default", "not", "the", "is", "was", "has", "and", "or", "for", "from", "in", "of",
    "a", "an", "no", "yes", "incorrect", "wrong", "mismatch", "denied", "rejected", "accepted", "refused", "failed",
    "error", "found", "loaded", "unauthorized", "identifier", "unexpected", "expected", "must", "cannot", "bearer",
    "basic", "digest", "negotiate", "env", "file", "stdin", "prompt",
})  # fmt: skip

# Every repetition below has a bound, or cannot begin inside itself: a hostile line costs no more than its length.
_PEM_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----")
# A line of a key: long base64, also behind the prefix of a log; or nothing but base64, as the last line may be short.
_PEM_LINE = re.compile(
    r"(?:\S+\s+){0,12}?\"?(?:[A-Za-z0-9+/]{40,}\S*|[A-Za-z0-9+/]{2,}={1,2}\S*)\s*\Z|\s*[A-Za-z0-9+/]{1,76}\s*\Z"
)
_PEM_HEAD = re.compile(r"\s*(?:(?:Proc-Type|DEK-Info|Version|Comment|Hash): .*)?\s*\Z")

_HEADER = re.compile(
    r"(?i)(\b(?:proxy-)?authorization[\"']?\s*[:=]\s*[\"']?(?:(?:bearer|basic|token|digest|negotiate|apikey|bot)\s+)?)"
    r"(?!(?:bearer|basic|token|digest)\b)([^\s\"',;]{4,}(?:,\s?\w+=\"[^\"]*\")*)"
)
_SCHEME = re.compile(r"(?i)(\b(?:bearer|basic)\s+)(?=[^\s\"']*\d)([A-Za-z0-9._~+/=-]{16,})")
_URL = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]{0,30}://[^\s:/@\"'<>?#]*:)([^\s/\"'<>?#]+)(?=@)")
_URL_TOKEN = re.compile(r"(\b[a-zA-Z][a-zA-Z0-9+.-]{0,30}://)([A-Za-z0-9_.~%-]{20,})(?=@)")
_COOKIE = re.compile(r"(?i)(\b(?:set-)?cookie[\"']?\s*[:=]\s*[\"']?)([^\r\n\"']+)")
_CRUMB = re.compile(r"(\b[^\s=;,]{1,99}=)([^\s;,]+)")
_CRUMB_NAMES = ("path=", "expires=", "max-age=", "domain=", "samesite=")
_OPTION = re.compile(
    rf"(?i)(--(?:[\w-]{{0,40}}-)?(?:{_NAME})(?:\s+|=))((?!-)[^\s\"']{{4,}}|\"[^\"]{{4,}}\"|'[^']{{4,}}')"
)
_ASSIGNED = re.compile(
    rf"(?i)(?<![\w])([\w.-]{{0,64}}?(?:{_NAME}))(\\?[\"']?\s{{0,4}}(?::=|=>|[:=])\s{{0,4}})"
    r"(\\?\"(?:[^\"\\]|\\[^\"])*\\?\"|'(?:[^'\\]|\\.)*'|[^\s\"'`,;&<>(){}\[\]]+)"
)
_TOKEN = re.compile(rf"(?<![A-Za-z0-9_])(?:{_TOKENS})")


class Redactor:
    """Removes known values and what looks like a secret.

    Args:
        known: values that must never be seen. Of a value with several lines each line is known too.
        home: the home directory, whose paths are shortened.
        roots: named directories, e.g. {"workspace": ..., "state": ...}; a path below one is told by the name.
    """

    def __init__(
        self, known: Iterable[Secret | str] = (), *, home: Path | None = None, roots: Mapping[str, Path] | None = None
    ) -> None:
        forms: set[str] = set()
        for value in known:
            for part in _parts(value.reveal() if isinstance(value, Secret) else value):
                forms.update(_forms(part))
        # A form inside the mark itself cannot be hidden by the mark.
        self._forms = sorted((form for form in forms if form not in REDACTED), key=len, reverse=True)
        self._roots = sorted(
            ((str(path).rstrip("/"), name) for name, path in (roots or {}).items() if len(path.parts) > 1),
            key=lambda root: len(root[0]),
            reverse=True,
        )
        starts = [re.escape(root) for root, _ in self._roots]
        starts += [re.escape(str(home).rstrip("/"))] if home is not None and len(home.parts) > 1 else []
        starts += [r"/home/[^\s/:\"']+", r"/Users/[^\s/:\"']+", "/root"]
        self._paths = re.compile(
            rf"(?<![\w./~>-])(?:{'|'.join(starts)})(?![\w-]|\.\w)(?:/[^\s\"'`:;,()\[\]{{}}<>|*?]*)?"
        )

    @property
    def forms(self) -> tuple[str, ...]:
        """Every way in which the known values may be written."""
        return tuple(self._forms)

    def redact(self, text: str) -> str:
        """The text without secrets; a text without any comes back as it is.

        Args:
            text: any text, whole: a value cut by its end is only found by `lines`.
        """
        lines = self.lines()
        return lines.feed(text) + lines.close()

    def lines(self) -> Lines:
        """A redactor of a stream, which holds back an unfinished line."""
        return Lines(self.known)

    def shorten_paths(self, text: str) -> str:
        """The text with paths of this machine told briefly, for chat.

        A path below a root becomes `<name>/rest`, another one below a home its last two components after `…/`; system
        paths stay. Use it after `redact`, never before: a value may hold a slash.
        """
        return self._paths.sub(self._shorten, text)

    def for_people(self, text: str) -> str:
        """The text as a chat may see it: without secrets, and with paths told briefly."""
        return self.shorten_paths(self.redact(text))

    def _shorten(self, match: re.Match[str]) -> str:
        path = match[0].rstrip("/")
        end = match[0][len(path) :] + ""
        stop = ""
        while path and path[-1] in ".!":  # the end of a sentence, not of a path
            path, stop = path[:-1], path[-1] + stop
        for root, name in self._roots:
            if path == root or path.startswith(root + "/"):
                return f"<{name}>{path[len(root) :]}{end}{stop}"
        parts = path.split("/")[1:]
        return (
            (f"…/{'/'.join(parts[-2:])}" if len(parts) > 3 else f"…/{parts[-1]}" if len(parts) == 3 else "~")
            + end
            + stop
        )

    def known(self, text: str) -> str:
        """The text without the known values alone, for words that are not Regrow's own.

        Every place of every form is covered at once, so that values that overlap go as one.
        """
        spans: list[tuple[int, int]] = []
        for form in self._forms:
            at = text.find(form)
            while at >= 0:
                spans.append((at, at + len(form)))
                at = text.find(form, at + 1)
        if not spans:
            return text
        spans.sort()
        out: list[str] = []
        done = 0
        end = -1
        for start, stop in spans:
            if start > end or end < 0:
                out += [text[done:start], REDACTED]
            end = max(end, stop)
            done = end
        return "".join([*out, text[done:]])


class Lines:
    """A stream being redacted: what `feed` returns may be shown, the unfinished line is held back.

    Args:
        known: removes the known values of a text.
    """

    LONGEST = 256 * 1024
    """Characters; a longer line is let go in parts, cut at a blank where there is one."""

    def __init__(self, known: Callable[[str], str]) -> None:
        self._known = known
        self._held = ""
        self._in_key = False

    def feed(self, chunk: str) -> str:
        """Take more of the stream and return what is ready, whole lines only."""
        self._held += chunk
        cut = self._held.rfind("\n") + 1
        if not cut and len(self._held) > self.LONGEST:
            # Half of it stays, so that a value at the cut is still whole in one of the parts.
            middle = len(self._held) // 2
            cut = self._held.rfind(" ", 0, middle) + 1 or middle
        ready, self._held = self._held[:cut], self._held[cut:]
        return self._clean(ready) if ready else ""

    def close(self) -> str:
        """The rest, when the stream has ended."""
        ready, self._held = self._held, ""
        return self._clean(ready) if ready else ""

    def _clean(self, text: str) -> str:
        text = self._known(text)
        lower = text.lower()
        if not self._in_key and not any(trigger in lower for trigger in _TRIGGERS):
            return text
        return "".join(self._keys(text))

    def _keys(self, text: str) -> Iterator[str]:
        """Lines with the rules applied; the lines of a private key become one mark."""
        for line in text.splitlines(keepends=True):
            if self._in_key:
                end = _PEM_END.search(line)
                if end:
                    self._in_key = False
                    yield line[end.start() :]
                    continue
                if _PEM_HEAD.match(line) or _PEM_LINE.match(line):
                    continue
                self._in_key = False  # a key cut short: what follows is the error text again
            begin = _PEM_BEGIN.search(line)
            if begin is None:
                yield _rules(line)
                continue
            yield _rules(line[: begin.start()]) + begin[0] + REDACTED
            end = _PEM_END.search(line, begin.end())
            if end:
                yield _rules(line[end.start() :])
            else:
                rest = line[begin.end() :]
                self._in_key = not rest.strip()
                # On one line, as JSON and repr write it, the key goes as far as it looks like one.
                tail = re.sub(r"\A(?:\\[nr]|[A-Za-z0-9+/=])*", "", rest)
                yield tail if tail else "\n"


def _rules(line: str) -> str:
    lower = line.lower()
    if not any(trigger in lower for trigger in _TRIGGERS):
        return line
    keep = rf"\1{REDACTED}"
    if "://" in lower:
        line = _URL.sub(keep, line)
        line = _URL_TOKEN.sub(keep, line)
    if "authorization" in lower:
        line = _HEADER.sub(_header, line)
    if "bearer" in lower or "basic" in lower:
        line = _SCHEME.sub(keep, line)
    if "cookie" in lower:
        line = _COOKIE.sub(lambda match: match[1] + _CRUMB.sub(_crumb, match[2]), line)
    line = _TOKEN.sub(REDACTED, line)
    if "--" in lower:
        line = _OPTION.sub(_option, line)
    return _ASSIGNED.sub(_assigned, line)


def _header(match: re.Match[str]) -> str:
    return match[0] if match[2].lower().rstrip(".:") in _PROSE else match[1] + REDACTED


def _crumb(match: re.Match[str]) -> str:
    return match[0] if match[1].lower() in _CRUMB_NAMES else match[1] + REDACTED


def _option(match: re.Match[str]) -> str:
    return match[0] if match[2].isupper() or match[2].strip("\"'").lower() in _PROSE else match[1] + REDACTED


def _assigned(match: re.Match[str]) -> str:
    name, between, value = match.groups()
    after = match.string[match.end() : match.end() + 1]
    opening = re.match(r"\\?[\"']", value)
    quote_mark = opening[0] if opening and value.endswith(opening[0]) and len(value) > len(opening[0]) else ""
    bare = value[len(quote_mark) : len(value) - len(quote_mark)]
    if not _is_value(name.lower(), between, bare, quoted=bool(quote_mark), after=after):
        return match[0]
    return name + between + quote_mark + REDACTED + quote_mark


def _is_value(name: str, between: str, value: str, *, quoted: bool, after: str) -> bool:
    """Whether an assigned word is a secret, and not the prose, type or expression that stands there as often."""
    plain = value.strip("'\"").lower()
    if (
        REDACTED in value
        or len(value) < 4
        or plain.rstrip(".:!") in _PROSE
        or re.fullmatch(r"[*x.•]+|\$\{?\w+\}?|%\w|<.*>", plain)
    ):
        return False
    if re.match(r"(?:env|file|credential):", plain) or (name.endswith("pwd") and value.startswith(("/", "~"))):
        return False
    if (after in ("(", "[") and not quoted) or (not quoted and re.fullmatch(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", value)):
        return False  # get_token(), settings.token
    password = bool(re.search(r"pass|pwd|pswd", name))
    digits = bool(re.search(r"\d", value))
    if value.isdecimal() and not password:
        return len(value) >= 20
    if quoted:
        return (" " not in value and (digits or password or len(value) >= 20) and len(value) >= 6) or (
            password and len(value) >= 6
        )
    if between.strip() == "=" and between == between.strip():
        return len(value) >= 6 and (digits or password or len(value) >= 16)
    if password:
        return len(value) >= 6 and (digits or after in ("", "\n", "\r"))
    return (digits and len(value) >= 8) or len(value) >= 24


def known_values(dotenv: str) -> list[str]:
    """The values of a `.env` file that a redactor should know.

    A value that is plainly no secret (a number, a level, a path, a host) stays out unless its name says otherwise:
    removing "production" everywhere would remove the error text (F31).

    Args:
        dotenv: the text of the file: NAME=value lines, quotes, `export` and comments as usual.
    """
    values: list[str] = []
    assignment = re.compile(
        r"^[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.]*)[ \t]*=[ \t]*(?:\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([^\n]*))",
        re.MULTILINE,
    )
    for match in assignment.finditer(dotenv):
        name, double, single, bare = match.groups()
        if double is not None:
            found = [double, re.sub(r"\\(.)", lambda m: {"n": "\n", "r": "\r", "t": "\t"}.get(m[1], m[1]), double)]
        else:
            found = [single if single is not None else re.sub(r"\s+#.*", "", bare).strip()]
        secretive = bool(re.search(rf"(?i)(?:{_NAME})|key|auth|sign|salt|private|dsn", name))
        for value in dict.fromkeys(found):
            inside = re.match(r"[a-zA-Z][\w+.-]*://[^\s:/@]*:([^\s@]+)@", value)
            if inside:
                values.append(inside[1])
            if len(value) >= SHORTEST and (secretive or not _is_harmless(value)):
                values.append(value)
    return list(dict.fromkeys(value for value in values if len(value) >= SHORTEST))


def _is_harmless(value: str) -> bool:
    return bool(
        re.fullmatch(
            r"[-+]?[\d.,_]+(?:[smhd]|ms|[kmg]i?b?)?|true|false|debug|info|warning|error|critical|production|staging"
            r"|development|testing|enabled|disabled|localhost(?::\d+)?|(?:\d{1,3}\.){3}\d{1,3}(?::\d+)?|[a-z]{2}[_-][a-z]{2}(?:\.utf-?8)?"
            r"|(?:africa|america|asia|atlantic|australia|europe|pacific)/[a-z_/]+|[~.]{0,2}(?:/[\w.@-]+)+/?"
            r"|[a-z][a-z+.-]*://[^\s:@?#]+(?::\d+)?[^\s@?#]*|(?:[a-z][a-z0-9-]*\.)+[a-z]{2,}(?::\d+)?",
            value,
            re.IGNORECASE,
        )
    )


def _parts(value: str) -> Iterator[str]:
    """The value, and of one with several lines each line that says something."""
    for part in dict.fromkeys([value, value.strip(), *(line.strip() for line in value.splitlines())]):
        if len(part) >= SHORTEST and not part.startswith("-----") and re.search(r"\w", part):
            yield part


def _forms(value: str) -> Iterator[str]:
    """Every way in which output writes a value."""
    raw = value.encode("utf-8", "surrogatepass")
    yield value
    for safe in ("", "/", "!'()*~", ";,/?:@&=+$!'()*#~"):
        escaped = quote(raw, safe=safe)
        yield escaped
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), escaped)
    plus = quote_plus(raw)
    yield plus
    yield re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), plus)
    for text in (json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]):
        yield text
        yield text.replace("/", "\\/")
        yield json.dumps(text)[1:-1]  # JSON in JSON, as tool calls are logged
    yield repr(value)[1:-1]
    yield repr(raw)[2:-1]
    yield html.escape(value)
    yield shlex.quote(value).strip("'")
    yield raw.hex()
    yield raw.hex().upper()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        for shift in range(3):
            # What follows and precedes shares a character with the value at either end; the rest is the value alone.
            encoded = encode(b"\0" * shift + raw).decode()
            start = (0, 2, 3)[shift]
            middle = encoded[start : (shift + len(raw)) * 8 // 6]
            if len(middle) >= SHORTEST:
                yield middle
