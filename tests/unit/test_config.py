"""One configuration file: what it may say, and what a person is told who mistypes it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.config import ChatSection, Config, DaemonSection, McpSection, line_of, load, parse_duration, parse_size
from regrow.errors import ConfigError

SERVICE = '[service]\nname = "claw"\ncommand = ["{python}"]\n'


def written(tmp_path: Path, text: str) -> Config:
    (tmp_path / "regrow.toml").write_text(text)
    return load(tmp_path / "regrow.toml")


def refusal(tmp_path: Path, text: str) -> str:
    """What is said of a file that cannot be used, without the directory of this test."""
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, text)
    assert caught.value.kind == "config"
    return str(caught.value).replace(f"{tmp_path}/", "")


@pytest.mark.parametrize(
    ("prefix", "base", "expected"),
    [
        # A virtual environment of the system's Python: every box shows /usr already, and refuses to be told to.
        ("/srv/regrow/.venv", "/usr", ["/srv/regrow/.venv"]),
        ("/usr", "/usr", []),
        ("/srv/regrow/.venv", "/usr/local", ["/srv/regrow/.venv", "/usr/local"]),
        ("/opt/python", "/opt/python", ["/opt/python"]),
    ],
)
def test_the_box_reads_the_prefixes_of_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str, base: str, expected: list[str]
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "base_prefix", base)
    config = written(tmp_path, SERVICE + '[sandbox]\nreadable = ["{python}", "kit"]\n')
    assert config.readable() == (*map(Path, expected), tmp_path / "kit")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30s", 30.0), (" 10 m ", 600.0), ("2h", 7200.0), ("1d", 86400.0), ("1.5s", 1.5), ("0s", 0.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "30", "s", "-1s", "1 week", "1h30m", "1,5s", "30 S", "1e3s", "infs"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="a duration looks like"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MB", 512 * 1024**2),
        ("2 GiB", 2 * 1024**3),
        ("10k", 10240),
        ("7", 7),
        ("7B", 7),
        ("1.5kB", 1536),
        ("1T", 1024**4),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "-1MB", "1 MBit", "1mb", "1PB", "1,5MB", "7i", "7iB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="a size looks like"):
        parse_size(text)


def test_numbers_are_seconds_and_bytes(tmp_path: Path) -> None:
    config = written(tmp_path, SERVICE + "drain = 2.5\nstop_timeout = 3\nlog_size = 1000\n")
    assert (config.service.drain, config.service.stop_timeout, config.service.log_size) == (2.5, 3.0, 1000)


def test_what_is_not_said_has_its_default(tmp_path: Path) -> None:
    config = written(tmp_path, SERVICE)
    assert config.path == tmp_path / "regrow.toml"
    assert config.repository == tmp_path
    assert config.daemon is None
    assert config.service.effective_handover == "exclusive"
    assert written(tmp_path, SERVICE + '[service.listen]\nhttp = "[::1]:80"\n').service.effective_handover == "socket"
    words = 'standby = "paused"\nready = "notify"\n'
    assert written(tmp_path, SERVICE + words).service.effective_handover == "overlap"
    listens = '[service.listen]\nhttp = "[::1]:80"\n'
    assert written(tmp_path, SERVICE + words + listens).service.effective_handover == "socket"


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        # Unknown keys, with the place, the path and what was probably meant.
        ("drian = 1\n", 'cannot use regrow.toml:4: unknown setting "service.drian"; did you mean "drain"?'),
        ("[srvice]\nname = 1\n", 'cannot use regrow.toml:4: unknown setting "srvice"; did you mean "service"?'),
        (
            '# a probe\n[probe.health]\ntarget = "/h"\ninterval_s = 1\n',
            'cannot use regrow.toml:7: unknown setting "probe.health.interval_s"; did you mean "interval"?',
        ),
        (
            'build = { comand = ["make"] }\n',
            'cannot use regrow.toml:4: unknown setting "service.build"; remove it',
        ),
        (
            '[daemon]\nconsole = "127.0.0.1:1"\nlangauge = "en"\n',
            'cannot use regrow.toml:6: unknown setting "daemon.langauge"; did you mean "language"?',
        ),
        ("[switch]\nzzzzzz = 1\n", 'cannot use regrow.toml:5: unknown setting "switch.zzzzzz"; remove it'),
        # Known keys with values that cannot be.
        (
            '[probe.talk]\ntype = "chat"\ntarget = "ping"\n',
            "cannot use regrow.toml: a probe of type chat needs `[chat] forward`",
        ),
        ('[probe.said]\ntype = "log"\n', 'cannot use regrow.toml:4: "probe.said": a probe of type log needs'),
        (
            '[probe.said]\ntype = "log"\ntarget = "("\n',
            'cannot use regrow.toml:4: "probe.said": a regular expression is needed here: missing )',
        ),
        (
            '[probe.a]\ntype = "ready"\n[probe.b]\ntype = "ready"\n',
            "cannot use regrow.toml: one probe of type ready is enough",
        ),
        ('drain = "soon"\n', 'cannot use regrow.toml:4: "service.drain": a duration looks like'),
        ("drain = -1\n", 'cannot use regrow.toml:4: "service.drain": input should be greater than or equal to 0'),
        ("drain = true\n", 'cannot use regrow.toml:4: "service.drain": a duration looks like'),
        ("drain = inf\n", 'cannot use regrow.toml:4: "service.drain": input should be a finite number'),
        ("drain = nan\n", 'cannot use regrow.toml:4: "service.drain": input should be'),
        ("drain = []\n", 'cannot use regrow.toml:4: "service.drain": input should be a valid number'),
        ("log_size = 1.5\n", 'cannot use regrow.toml:4: "service.log_size": input should be a valid integer'),
        ("log_size = true\n", 'cannot use regrow.toml:4: "service.log_size": a size looks like'),
        ('standby = "paused"\n', 'cannot use regrow.toml:1: "service": `standby = "paused"` without a socket needs'),
        ('check = ["{out}"]\n', 'cannot use regrow.toml:4: "service.check": {out}: it stands for nothing here'),
        ("check_timeout = 0\n", 'cannot use regrow.toml:4: "service.check_timeout": input should be greater than 0'),
        ('handover = "magic"\n', "cannot use regrow.toml:4: \"service.handover\": input should be 'socket', 'overlap'"),
        ('stop_signal = "TERM"\n', 'cannot use regrow.toml:4: "service.stop_signal": string should match pattern'),
        ("trap_bind = true\n", 'cannot use regrow.toml:1: "service": `trap_bind` needs handover = "socket" and the'),
        (
            'trap_bind = true\ndriver = "systemd"\n[service.listen]\nhttp = "127.0.0.1:1"\n',
            'cannot use regrow.toml:1: "service": `trap_bind` needs driver = "embedded"',
        ),
        (
            'trap_bind = true\n[service.listen]\nhttp = "unix:/run/x"\n',
            'cannot use regrow.toml:1: "service": `trap_bind` is for HOST:PORT only',
        ),
        ('[service.listen]\nhttp = "8700"\n', 'cannot use regrow.toml:4: "service.listen": an address looks like'),
        ('[service.listen]\nhttp = "localhost:0"\n', 'cannot use regrow.toml:4: "service.listen": an address looks'),
        ('[service.secrets]\nKEY = "word"\n', 'cannot use regrow.toml:5: "service.secrets.KEY": string should match'),
        ("[probe.health]\n", 'cannot use regrow.toml:4: "probe.health": a probe of type http needs `target`'),
        ('[probe.h]\ntype = "command"\n', 'cannot use regrow.toml:4: "probe.h": a command probe needs `command`'),
        ('[probe.h]\ntarget = "/"\ntimeout = 0\n', 'cannot use regrow.toml:4: "probe.h": `interval` and `timeout`'),
        ('[repair]\nagent = "command"\n', 'cannot use regrow.toml:4: "repair": the agent `command` needs `command`'),
        ('[daemon]\nconsole = "0.0.0.0:80"\n', 'cannot use regrow.toml:5: "daemon.console": the console listens on'),
        ("[retention]\nreleases = 1\n", 'cannot use regrow.toml:5: "retention.releases": input should be greater'),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path: Path, extra: str, expected: str) -> None:
    assert refusal(tmp_path, SERVICE + extra).startswith(expected)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8700/chat", "http://localhost:8700/chat", "http://[::1]:8700/chat"),
        *("https://10.1.2.3/chat", "http://192.168.0.9:80/a/b?c=d", "http://[fd00::7]/chat"),
    ],
)
def test_addresses_to_which_a_chat_is_forwarded(url: str) -> None:
    assert ChatSection(forward=url).forward == url


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.org/chat", "http://8.8.8.8/chat", "http://169.254.169.254/latest", "http://0.0.0.0:8700/"),
        *("ftp://127.0.0.1/chat", "127.0.0.1:8700/chat", "http:///chat", "http://ada:word@127.0.0.1/chat"),
        *("http://127.0.0.1:99999/chat", "http://[::1/chat", "http://127.0.0.1.example.org/", "http://224.0.0.1/"),
    ],
)
def test_addresses_to_which_no_chat_is_forwarded(tmp_path: Path, url: str) -> None:
    text = f'[service]\nname = "claw"\ncommand = ["x"]\n[chat]\nforward = "{url}"\n'
    (tmp_path / "regrow.toml").write_text(text)
    with pytest.raises(ConfigError, match=r'regrow\.toml:5: "chat\.forward": an address looks like'):
        load(tmp_path / "regrow.toml")


def test_a_service_that_is_told_nothing_is_not_asked_for_what_it_says() -> None:
    with pytest.raises(ValueError, match="`outbox` needs `forward`"):
        ChatSection(outbox="http://127.0.0.1:8700/outbox")


@pytest.mark.parametrize(
    "store",
    [
        "",
        "env:STORE_URL",
        "file:/etc/store",
        "credential:store",
        "postgresql://u@h/d",
        "postgresql://u@/d?host=/run/pg",
    ],
)
def test_where_the_store_may_be(store: str) -> None:
    assert DaemonSection(store=store).store == store


@pytest.mark.parametrize(
    ("store", "why"),
    [
        ("postgresql://u:word@h/d", "a password is never written here"),
        ("postgresql://u@h/d?password=word", "a password is never written here"),
        *(
            (wrong, "looks like")
            for wrong in ("postgres", "mysql://u@h/d", "/var/lib/store.db", "postgresql://u@h", "env:")
        ),
    ],
)
def test_where_the_store_may_not_be(store: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        DaemonSection(store=store)


def test_a_missing_setting_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path, '[service]\nname = "claw"\n') == (
        'cannot use regrow.toml:1: the setting "service.command" is missing; add it'
    )
    assert refusal(tmp_path, "") == 'cannot use regrow.toml: the setting "service" is missing; add it'
    # A mistyped name is also a missing one; the first says more.
    assert 'unknown setting "service.nmae"; did you mean "name"?' in refusal(
        tmp_path, '[service]\nnmae = "claw"\ncommand = ["x"]\n'
    )


def test_where_the_file_is_cannot_be_said_in_it(tmp_path: Path) -> None:
    # Everything relative hangs on it: a setting must not move the repository and the box elsewhere.
    assert refusal(tmp_path, f'path = "/etc/regrow.toml"\n{SERVICE}') == (
        'cannot use regrow.toml:1: unknown setting "path"; remove it'
    )


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"does not exist; name the file with --config"):
        load(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="Is a directory"):
        load(tmp_path)
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match="utf-8"):
        load(tmp_path / "latin.toml")
    assert "line 2" in refusal(tmp_path, "[service]\nname = \n")
    assert refusal(tmp_path, "[service\n").startswith("cannot read regrow.toml: ")


def test_placeholders(tmp_path: Path) -> None:
    config = written(tmp_path, SERVICE)
    words = ("{python}", "--out={out}/bin", "$HOME", '{"json": 1}', "{}", "plain")
    assert config.expand(words, out="/srv/{python}") == [
        sys.executable,
        "--out=/srv/{python}/bin",  # what is put in is not read again
        "$HOME",
        '{"json": 1}',
        "{}",
        "plain",
    ]
    with pytest.raises(ConfigError, match=r"cannot use \{outt\}: .* known are \{out\}, \{python\}"):
        config.expand(("{outt}",), out="/srv")


# Finding the line

QUICK = settings(max_examples=60, deadline=None)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz_0123456789-", min_size=1, max_size=8)
VALUES = st.one_of(
    st.integers(-9, 9).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.sampled_from(['"[text]"', '"a = 1"', "[\n  1,\n  2,\n]", '"\u2028"', '"\x85 line"', "'''raw'''", '["a", "b"]']),
)
TREES: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(NAMES, VALUES, min_size=1, max_size=4),
    lambda inner: st.dictionaries(NAMES, st.one_of(VALUES, inner), min_size=1, max_size=3),
    max_leaves=8,
)


def as_toml(tree: dict[str, Any], table: tuple[str, ...] = ()) -> tuple[list[str], dict[tuple[str, ...], int]]:
    """A file with these settings, and the line on which each stands."""
    lines: list[str] = []
    places: dict[tuple[str, ...], int] = {}
    for key, value in tree.items():
        if isinstance(value, str):
            places[*table, key] = len(lines) + 1
            lines += f"{key} = {value}  # why".split("\n")
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += ["", f"[{'.'.join((*table, key))}]"]
            places[*table, key] = len(lines)
            inner, below = as_toml(value, (*table, key))
            places |= {name: line + len(lines) for name, line in below.items()}
            lines += inner
    return lines, places


@QUICK
@given(TREES)
def test_every_setting_is_found_on_its_line(tree: dict[str, Any]) -> None:
    lines, places = as_toml(tree)
    text = "\n".join(lines)
    tomllib.loads(text)
    assert {keys: line_of(text, list(keys)) for keys in places} == places


@QUICK
@given(st.text(), st.lists(st.text(max_size=5), max_size=4))
def test_looking_for_a_line_never_breaks(text: str, keys: list[str]) -> None:
    assert 0 <= line_of(text, keys) <= text.count("\n") + 1


@QUICK
@given(st.text(st.sampled_from("[]=.\"'# \nab"), max_size=60))
def test_looking_in_what_is_almost_toml_never_breaks(text: str) -> None:
    assert 0 <= line_of(text, ["a", "b"]) <= text.count("\n") + 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[a]\nb.c = 1", 2),
        ("a.b.c = 1", 1),
        ("a = { b = { c = 1 } }", 1),
        ("[a]\nb = { c = 1 }", 2),
        ('["a"."b"]\n"c" = 1', 2),
        ("[ a . b ] # here\nc = 1", 2),
        ("[a]\n[b]\nc = 1", 1),  # not written out: the nearest table that is
        ("c = 1", 0),
    ],
)
def test_other_ways_to_write_a_key(text: str, line: int) -> None:
    assert line_of(text, ["a", "b", "c"]) == line


MODEL = '[model]\nkind = "anthropic"\nmodels = ["m-1"]\n'
PRICE = '[model.prices."m-1"]\ninput = 3\noutput = 15\n'


def test_a_model_and_what_a_job_may_use_of_it(tmp_path: Path) -> None:
    model = written(tmp_path, SERVICE + MODEL + 'key = "env:KEY"\nbudget = 2\n' + PRICE).model
    assert model is not None
    assert (model.models, model.key, model.budget, model.prices["m-1"].output) == (("m-1",), "env:KEY", 2, 15)
    local = written(tmp_path, SERVICE + MODEL.replace("anthropic", "openai") + "budget = 0\nbudget_tokens = 9\n").model
    assert local is not None
    assert (local.key, local.secrets, local.prices) == ("", "refuse", {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (MODEL, 'a `budget` in money needs `[model.prices."m-1"]`'),
        (MODEL.replace('"m-1"', "") + PRICE, "models"),
        (MODEL + PRICE.replace("m-1", "m-2"), "a price is for a model that is not in `models`: m-2"),
        (MODEL + PRICE.replace("15", "-1"), "greater than or equal to 0"),
        (MODEL + 'key = "sk-word"\n' + PRICE, "model.key"),
        (MODEL + 'base_url = "http://example.com"\n' + PRICE, "leave this machine by https only"),
        (MODEL + 'base_url = "https://u:w@example.com"\n' + PRICE, "without a name or password"),
        (MODEL + 'base_url = "ftp://example.com"\n' + PRICE, "an address looks like"),
        (MODEL + 'proxy = "http://u:w@proxy:1"\n' + PRICE, "without a name or password"),
        (MODEL + 'currency = "Euro"\n' + PRICE, "model.currency"),
        (MODEL + 'silence = "0s"\n' + PRICE, "model.silence"),
    ],
)
def test_a_model_that_cannot_be_used(tmp_path: Path, text: str, why: str) -> None:
    assert why in refusal(tmp_path, SERVICE + text)


@pytest.mark.parametrize("url", ["https://api.example.com/v1", "http://127.0.0.1:11434/v1", "http://192.168.1.7:8000/"])
def test_where_a_model_may_be(tmp_path: Path, url: str) -> None:
    model = written(tmp_path, SERVICE + MODEL + f'base_url = "{url}"\n' + PRICE).model
    assert model is not None
    assert model.base_url == url.rstrip("/")


@pytest.mark.parametrize(
    ("notify", "default", "may", "may_not"),
    [
        ([], "", [], ["web:main", "feishu:oc_1"]),
        (["feishu:oc_1"], "feishu:oc_1", ["feishu:oc_1", "feishu:oc_1/om_2"], ["feishu:oc_12", "web:oc_1"]),
        (["feishu:*", "web:main"], "web:main", ["feishu:oc_1", "feishu:oc_2/om_3", "web:main"], ["web:other"]),
        (["feishu:oc_1/om_2"], "feishu:oc_1/om_2", ["feishu:oc_1/om_2"], ["feishu:oc_1", "feishu:oc_1/om_3"]),
    ],
)
def test_the_chats_that_a_program_may_have_told(
    notify: list[str], default: str, may: list[str], may_not: list[str]
) -> None:
    settings = McpSection(notify=tuple(notify))
    assert settings.default == default
    for chats, allowed in ((may, True), (may_not, False)):
        for chat in chats:
            assert settings.may_notify(*chat.split(":", 1)) is allowed, chat
