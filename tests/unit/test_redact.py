"""No known value leaves in any form, and what is no secret stays as it is (F31, F38). Canaries are made at run time."""

from __future__ import annotations

import base64
import html
import json
import random
import re
import secrets
import shlex
import string
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from regrow.redact import Redactor, known_values
from regrow.secret import REDACTED, Secret

FORMS = {
    "plain": lambda value: value,
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64url": lambda value: base64.urlsafe_b64encode(value.encode()).decode(),
    "basic": lambda value: base64.b64encode(f"user:{value}".encode()).decode(),
    "shifted": lambda value: base64.b64encode(f"xy{value}z".encode()).decode(),
    "shifted more": lambda value: base64.b64encode(f"x{value}zz".encode()).decode(),
    "percent": lambda value: quote(value, safe=""),
    "percent path": quote,
    "percent lower": lambda value: re.sub("%..", lambda match: match[0].lower(), quote(value, safe="")),
    "form": quote_plus,
    "json": json.dumps,
    "json twice": lambda value: json.dumps(json.dumps({"a": value})),
    "json unicode": lambda value: json.dumps(value, ensure_ascii=False),
    "repr": repr,
    "bytes": lambda value: repr(value.encode()),
    "hex": lambda value: value.encode().hex(),
    "HEX": lambda value: value.encode().hex().upper(),
    "html": html.escape,
    "shell": shlex.quote,
}

printable = string.ascii_letters + string.digits + string.punctuation + " 密钥é"
values = st.text(printable, min_size=6, max_size=60).map(str.strip).filter(lambda text: len(text) >= 6)


@given(
    value=values,
    before=st.text(max_size=20),
    after=st.text(max_size=20),
    form=st.sampled_from(sorted(FORMS)),
    cuts=st.integers(1, 40),
)
def test_a_known_value_never_leaves(value: str, before: str, after: str, form: str, cuts: int) -> None:
    assume(not any(value[at : at + 4] in REDACTED for at in range(len(value) - 3)))
    written = FORMS[form](value)
    core = written.strip("\"'=") if form not in ("basic", "shifted", "shifted more") else written[4:-4].rstrip("=")
    text = before + written + after
    assume(len(core) >= 6)
    redactor = Redactor([Secret(value)])
    assert value not in redactor.redact(text)
    assert core not in redactor.redact(text)
    stream = redactor.lines()
    streamed = "".join(stream.feed(text[at : at + cuts]) for at in range(0, len(text), cuts)) + stream.close()
    assert value not in streamed
    assert core not in streamed


def test_a_value_of_several_lines_is_known_line_by_line() -> None:
    lines = [secrets.token_hex(20) for _ in range(3)]
    redactor = Redactor(["\n".join(lines)])
    stream = redactor.lines()
    out = "".join(stream.feed(f"INFO {line}\n") for line in lines) + stream.close()
    assert out == f"INFO {REDACTED}\n" * 3


def test_overlapping_values_go_as_one() -> None:
    value = secrets.token_hex(12)
    assert Redactor([value[:16], value[8:]]).redact(f"<{value}>") == f"<{REDACTED}>"


def test_short_values_and_parts_of_the_mark_are_ignored() -> None:
    text = "abc redacted [redacted]"
    assert Redactor(["abc", "redacted", "", "12345"]).redact(text) == text


def test_the_error_text_stays() -> None:
    value = secrets.token_urlsafe(24)
    text = f"error: login to https://bot:{value}@example.org failed: 401\nexit code 1\n"
    assert Redactor().redact(text) == f"error: login to https://bot:{REDACTED}@example.org failed: 401\nexit code 1\n"


def letters(count: int) -> str:
    return "".join(random.choices(string.ascii_letters + string.digits, k=count - 1)) + "7"


SHAPES = [
    "Authorization: Bearer {}",
    'authorization: "Basic {}"',
    '{{"Authorization": "Bearer {}"}}',
    "using bearer {} for the call",
    "postgres://app:{}@db:5432/app",
    "https://{}@github.com/x/y.git",
    "password={}",
    "PASSWORD: {}",
    'db_password = "{}"',
    "DB_PASS={}",
    "API_KEY={}",
    '"api_key": "{}"',
    "'client_secret': '{}'",
    "app_secret: {}",
    "accessToken={}",
    "https://example.org/?token={}&x=1",
    "https://example.org/?x=1&access_token={}",
    "run --password {} --verbose",
    "run --api-key={} --verbose",
    "Cookie: session={}",
    "Set-Cookie: sid={}; Path=/; HttpOnly",
    "ghp_" + "{0}",
    "github_pat_" + "{0}{0}",
    "glpat-" + "{0}",
    "xoxb-" + "{0}",
    "sk-ant-" + "{0}",
    "sk-proj-" + "{0}",
    "npm_" + "{0}",
    'export SECRET_KEY="{}"',
    'log: {{\\"token\\": \\"{}\\"}}',
    "refresh_token => {}",
    "encrypt_key: '{}'",
]


@pytest.mark.parametrize("shape", SHAPES)
def test_secrets_nobody_told_of(shape: str) -> None:
    value = letters(36)
    out = Redactor().redact("2025-02-21 INFO " + shape.format(value) + "\nnext line\n")
    assert value not in out
    assert REDACTED in out
    assert out.startswith("2025-02-21 INFO ")
    assert out.endswith("\nnext line\n")


def test_only_the_values_of_cookies_go() -> None:
    first, second = letters(20), letters(20)
    out = Redactor().redact(f"Set-Cookie: sid={first}; Path=/; Max-Age=60; csrf={second}")
    assert out == f"Set-Cookie: sid={REDACTED}; Path=/; Max-Age=60; csrf={REDACTED}"


def key(lines: int, kind: str = "RSA PRIVATE KEY") -> tuple[str, list[str]]:
    body = [base64.b64encode(secrets.token_bytes(48)).decode() for _ in range(lines)]
    return "\n".join([f"-----BEGIN {kind}-----", *body, f"-----END {kind}-----"]), body


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_private_keys_go_across_lines(size: int) -> None:
    pem, body = key(6)
    text = f"loading\n{pem}\nloaded: 1 key\n"
    stream = Redactor().lines()
    out = "".join(stream.feed(text[at : at + size]) for at in range(0, len(text), size)) + stream.close()
    assert not any(line in out for line in body)
    assert out.startswith("loading\n-----BEGIN")
    assert out.endswith("-----\nloaded: 1 key\n")


def test_a_key_that_is_cut_short_does_not_hide_the_error() -> None:
    pem, body = key(4)
    text = pem.rsplit("\n", 1)[0] + "\nValueError: could not deserialize key data, it may be cut\nexit code 1\n"
    out = Redactor().redact(text)
    assert not any(line in out for line in body)
    assert out.endswith("ValueError: could not deserialize key data, it may be cut\nexit code 1\n")


def test_a_key_in_json_and_behind_log_prefixes() -> None:
    pem, body = key(3)
    for text in (json.dumps({"key": pem, "id": 7}), "\n".join(f"07:00:01 app | {line}" for line in pem.split("\n"))):
        out = Redactor().redact(text + "\nfine\n")
        assert not any(line in out for line in body)
        assert out.endswith("\nfine\n")


BENIGN = r"""
Traceback (most recent call last):
  File "/usr/lib/python3.11/asyncio/base_events.py", line 650, in run_until_complete
    return future.result()
  File "app/auth.py", line 12, in login
    token = self.tokens.get(user)
    password = getpass.getpass("Password: ")
KeyError: 'token'
SyntaxError: invalid token: '}' at line 3
SyntaxError: Unexpected token: identifier
error: password: required
error: secret: missing
Usage: 1532 tokens: prompt=1200 completion=332
max_tokens=4096 token_count=12 total_tokens: 15320
token expired, please log in again
token=None secret=None password=None
token: Optional[str] = None
def connect(host: str, password: str, api_key: str | None = None) -> None:
    api_key=os.environ["API_KEY"], password=settings.database.password
if (token == expected_token):
password=${DB_PASSWORD} token=$TOKEN
secret = env:FEISHU_SECRET
PWD=/srv/app/current
Compiling tokenizer v0.15.2
   Compiling secret-service v3.0.1
key: value
sort_key=created primary_key: id
cache key: build-linux-x86
Author: Someone <someone@example.org>
fetching https://example.org/path?page=2&sort=asc
https://example.org:8443/@scope/package
commit 3f2a9c1d4e5b6a7f8091a2b3c4d5e6f708192a3b
sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
uuid 123e4567-e89b-12d3-a456-426614174000
-----BEGIN CERTIFICATE-----
MIIBszCCARwCCQDsomething
-----END CERTIFICATE-----
test_password_reset_sends_mail PASSED
3 passed, 1 failed: test_token_refresh
pass: 12 fail: 3
Cookie jar is empty
basic authentication is disabled
bearer of bad news
Authorization: required
重启完成，密码: 未设置
task-runner sk-short disk-usage risk-free
"""


@pytest.mark.parametrize("line", BENIGN.strip("\n").split("\n"))
def test_what_is_no_secret_stays(line: str) -> None:
    assert Redactor().redact(line + "\n") == line + "\n"


def test_benign_text_as_a_whole_stays() -> None:
    assert Redactor([letters(20)]).redact(BENIGN) == BENIGN


@given(st.text(max_size=300), st.integers(1, 50))
def test_a_stream_is_the_whole(text: str, size: int) -> None:
    redactor = Redactor(["correct horse"])
    stream = redactor.lines()
    out = "".join(stream.feed(text[at : at + size]) for at in range(0, len(text), size)) + stream.close()
    assert out == redactor.redact(text)


@pytest.mark.parametrize(
    "unit", ["a.", "-eyJaaaaaaaa", "--a-", "http", "a+.", "x=", 'token="', "cookie:a.", "SG.aaaaaaaaaaaaaaaa-"]
)
def test_a_hostile_line_is_survived(unit: str) -> None:
    line = "token cookie: :// SG. eyJ -- " + unit * (100_000 // len(unit)) + "\n"
    assert Redactor(home=Path("/home/x")).redact(line).endswith("\n")


def test_an_endless_line_is_let_go_without_its_secret() -> None:
    value = letters(30)
    stream = Redactor([value]).lines()
    out = ""
    for _ in range(200):
        out += stream.feed("x" * 3001 + value)
    assert out
    out += stream.close()
    assert value not in out


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("/work/job-7/claw/x.py:12: error", "<workspace>/claw/x.py:12: error"),
        ("at /work/job-7.", "at <workspace>."),
        ('File "/state/releases/r3/app/main.py", line 2', 'File "<releases>/r3/app/main.py", line 2'),
        ("see /state/regrow.db", "see <state>/regrow.db"),
        ("/home/x/projects/claw/src/a.py", "…/src/a.py"),
        ("/home/other/secret/b.py and /root/deep/er/c", "…/secret/b.py and …/er/c"),
        ("/home/x/.env", "…/.env"),
        ("cd /home/x", "cd ~"),
        ("/usr/lib/python3.11/json/decoder.py", "/usr/lib/python3.11/json/decoder.py"),
        ("https://example.org/home/x/page", "https://example.org/home/x/page"),
        ("/work/job-70/x.py", "/work/job-70/x.py"),
    ],
)
def test_paths_are_shortened(text: str, short: str) -> None:
    roots = {"workspace": Path("/work/job-7"), "state": Path("/state"), "releases": Path("/state/releases")}
    assert Redactor(home=Path("/home/x"), roots=roots).shorten_paths(text) == short


def test_known_values_of_a_dotenv_file() -> None:
    first, second, third, fourth = (letters(20) for _ in range(4))
    text = f"""
# comment={letters(9)}
PORT=8080
ENV=production
LOG_LEVEL=warning
TZ=Asia/Shanghai
DATA=/var/lib/claw
export FEISHU_SECRET={first}  # the app's
QUOTED="{second}\\n"
SINGLE='{third}'
DATABASE_URL=postgres://app:{fourth}@db/app
PASSWORD=production
EMPTY=
"""
    found = known_values(text)
    assert set(found) == {
        first,
        second + "\n",
        second + "\\n",
        third,
        fourth,
        f"postgres://app:{fourth}@db/app",
        "production",
    }
