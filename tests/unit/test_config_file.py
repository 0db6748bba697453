"""A section is put into a file that a person wrote; everything else stays byte for byte."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from regrow.config_file import ConfigFile, toml_string
from regrow.errors import ConfigError, Refused

HEAD = '# mine\n[service]\nname = "a"   # short\ncommand = [ "x" ]\n'
LINES = ['app_id = "cli_1"', 'app_secret = "env:S"']
NEW = '[channels.feishu]\napp_id = "cli_1"\napp_secret = "env:S"\n'


def file(tmp_path: Path, text: str) -> ConfigFile:
    path = tmp_path / "regrow.toml"
    path.write_bytes(text.encode())
    return ConfigFile(path)


@pytest.mark.parametrize(
    ("text", "new"),
    [
        (HEAD, HEAD + "\n" + NEW),
        (HEAD.rstrip("\n"), HEAD + "\n" + NEW),
        (HEAD + "\n\n\n", HEAD + "\n" + NEW),
        (HEAD + "# last words\n", HEAD + "# last words\n\n" + NEW),
        (HEAD + "[channels]\n", HEAD + "[channels]\n\n" + NEW),
        (HEAD.replace("\n", "\r\n"), (HEAD + "\n" + NEW).replace("\n", "\r\n")),
    ],
)
def test_a_new_section_stands_at_the_end(text: str, new: str, tmp_path: Path) -> None:
    assert file(tmp_path, text).with_section("channels.feishu", LINES) == new


OLD = '[channels.feishu]  # old\napp_id = "cli_0"\n# a word\napp_secret = "env:T"\n'
PEOPLE = '[[channels.feishu.people]]\nid = "a"\nname = "A"\nrole = "owner"\nopen_id = "ou_1"\n'


@pytest.mark.parametrize("old", [OLD, OLD + "\n" + PEOPLE, OLD.replace("channels.feishu", ' channels . "feishu" ')])
@pytest.mark.parametrize("tail", ["", '\n# of the switch\n[switch]\nbake = "1s"\n'])
def test_a_section_is_replaced_where_it_stands(old: str, tail: str, tmp_path: Path) -> None:
    assert file(tmp_path, f"{HEAD}\n{old}{tail}").with_section("channels.feishu", LINES, replace=True) == (
        f"{HEAD}\n{NEW}{tail}"
    )


def test_one_that_is_there_is_not_replaced_by_accident(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="replace it with --replace"):
        file(tmp_path, f"{HEAD}\n{OLD}").with_section("channels.feishu", LINES)


DOTTED = '[channels]\nfeishu.app_id = "cli_0"\nfeishu.app_secret = "env:T"\n'


@pytest.mark.parametrize(
    "text",
    [
        HEAD + 'channels.feishu.app_id = "cli_0"\n',  # a key of [service]: not ours, and refused when it is loaded
        'channels = { feishu = { app_id = "cli_0", app_secret = "env:T" } }\n' + HEAD,
        'channels.feishu.app_id = "cli_0"\nchannels.feishu.app_secret = "env:T"\n' + HEAD,
        HEAD + '[channels]\nfeishu = { app_id = "cli_0", app_secret = "env:T" }\n',
        HEAD + 'env = { A = """\n[channels.feishu]\n""" }\n' + DOTTED,
        HEAD + 'env.A = """\n[channels.feishu]\n[x]\n"""\n' + DOTTED,
        "channels = {}\n" + HEAD,
    ],
)
def test_what_cannot_be_changed_by_itself_is_left_alone(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^cannot"):
        file(tmp_path, text).with_section("channels.feishu", LINES, replace=True)
    assert (tmp_path / "regrow.toml").read_text() == text


def test_what_would_not_load_is_never_written(tmp_path: Path) -> None:
    one = file(tmp_path, HEAD)
    with pytest.raises(ConfigError, match=r'regrow.toml:\d+: unknown setting "channels.feishu.app"'):
        one.with_section("channels.feishu", ['app = "cli_1"'])
    with pytest.raises(ConfigError):
        one.write(HEAD + "[channels.feishu]\n")
    assert (tmp_path / "regrow.toml").read_text() == HEAD
    assert not one.backup.exists()


def test_the_old_bytes_stay_beside_the_new_ones_and_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.toml", tmp_path / "regrow.toml"
    real.write_text(HEAD)
    real.chmod(0o640)
    link.symlink_to(real)
    one = ConfigFile(link)
    config = one.write(one.with_section("channels.feishu", LINES))
    assert config.channels is not None and config.channels.feishu is not None
    assert link.is_symlink()
    assert (tmp_path / "real.toml.bak").read_text() == HEAD
    assert real.read_text() == HEAD + "\n" + NEW
    assert {stat.S_IMODE(path.stat().st_mode) for path in (real, one.backup)} == {0o640}


def test_a_file_somebody_changed_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    one = file(tmp_path, HEAD)
    text = one.with_section("channels.feishu", LINES)
    one.path.write_text(HEAD + "# theirs\n")
    with pytest.raises(ConfigError, match="somebody changed it meanwhile"):
        one.write(text)
    assert one.path.read_text() == HEAD + "# theirs\n"


@pytest.mark.parametrize("what", ["file", "directory"])
def test_read_only_is_said_before_anything_is_asked(what: str, tmp_path: Path) -> None:
    one = file(tmp_path, HEAD)
    one.check_writable()
    (one.path if what == "file" else tmp_path).chmod(0o440 if what == "file" else 0o555)
    try:
        with pytest.raises(ConfigError, match="read-only"):
            ConfigFile(one.path).check_writable()
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("text", ["", "a", 'a"b\\c', "张三 [x] = #"])
def test_a_text_comes_back_as_it_was(text: str, tmp_path: Path) -> None:
    one = file(tmp_path, HEAD)
    person = f'{{ id = "a", name = {toml_string(text)}, role = "owner", open_id = "ou_1" }}'
    written = one.write(one.with_section("channels.feishu", [*LINES, f"people = [{person}]"]))
    assert written.channels is not None and written.channels.feishu is not None
    assert written.channels.feishu.people[0].name == text


@pytest.mark.parametrize("text", ["a\nb", "\x1b[2K", "\ud800", "\u202e"])
def test_a_text_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        toml_string(text)
