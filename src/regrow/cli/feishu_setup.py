"""`regrow channels add feishu`: first everything that can be refused at once, then the network, then the questions.

The secret and the settings are written last and together, or not at all.
"""

from __future__ import annotations

import asyncio
import getpass
import re
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from regrow.channels.feishu import section
from regrow.channels.feishu.api import DOMAINS, App
from regrow.channels.feishu.checks import WRONG_DOMAIN, Check
from regrow.cli import exits, terminal
from regrow.cli.feishu_meeting import Found, Report, daemon, hush, look, meet, say
from regrow.cli.options import Session
from regrow.config import FeishuSection, PersonSection
from regrow.config_file import ConfigFile
from regrow.errors import ConfigError, Refused, RegrowError
from regrow.files import private_directory, write_atomic
from regrow.places import Places
from regrow.secret import Secret, resolve

_APP_ID = re.compile(r"cli_[A-Za-z0-9_]+")
_OPEN_ID = re.compile(r"ou_[A-Za-z0-9]+")
_CONTACT = re.compile(r"[^@\s]+@[^@\s]+|\+?[0-9]{6,20}")
_ADDRESS = re.compile(r"https?://[^/@\s]+(/[^\s]*)?")
_NAMED = re.compile(r"(env|file|credential):.+")
_MOST_SECRET = 4096
_NAME = "channels.feishu"


@dataclass(frozen=True)
class Answers:
    """What the command line says; "" where it says nothing. See the options of `regrow channels add`."""

    config: Path
    app_id: str = ""
    secret_file: str = ""
    secret_env: str = ""
    domain: str = ""
    base_url: str = ""
    proxy: str = ""
    owner: str = ""
    contact: str = ""
    owner_name: str = ""
    wait: float = 0.0
    replace: bool = False
    anyway: bool = False
    yes: bool = False


class Setup:
    """One run.

    Args:
        session: the daemon that may be running, and how to answer.
        answers: what was said on the command line.
    """

    def __init__(self, session: Session, answers: Answers) -> None:
        self._session = session
        self._answers = answers
        self._asks = terminal.can_ask() and not session.as_json
        self._report = Report(session.as_json)
        self._found = Found()

    def run(self) -> int:
        """Ask, look, write.

        Returns:
            0 when it is written; 1 when something is red, 6 when the person said no: then nothing is.

        Raises:
            RegrowError: kinds usage (64), config (78), no_answer (69), exists and locked (5). Nothing is written.
        """
        hush()
        answers, found = self._answers, self._found
        self._check_options()
        file = ConfigFile(answers.config)
        file.check_writable()
        old = file.config.channels.feishu if file.config.channels else None
        if old is not None and not answers.replace:
            raise Refused(
                f"cannot add [{_NAME}] to {file.path}: it has this section already; replace it with --replace",
                kind="exists",
            )
        app_id = self._app_id()
        secret, reference = self._secret()
        app = self._look(app_id, secret, self._owner())
        wait = answers.wait if self._asks else 0.0
        asyncio.run(meet(app, found, self._report, self._session, wait=wait, greet=True))
        if not found.open_id and found.held:
            raise Refused(
                f"cannot hear who shall own: {found.held.removeprefix('cannot ')}; or give --owner-open-id",
                kind="locked",
            )
        if not found.open_id or (found.red and not self._goes_on()):
            return self._kept(file, exits.UNWELL)
        if found.chat and not answers.yes and not terminal.yes(say("ask.is_owner", id=found.open_id)):
            return self._kept(file, exits.CANCELLED)
        stored = _Stored(secret, reference, app_id)
        text = file.with_section(_NAME, self._lines(app, stored.reference, old), replace=old is not None)
        if not self._session.as_json:
            terminal.diff(file.difference(text))
        if not answers.yes and not terminal.yes(say("ask.write", path=file.path)):
            return self._kept(file, exits.CANCELLED)
        stored.write()
        try:
            file.write(text)
        except BaseException:
            stored.take_back()
            raise
        self._written(file, stored)
        return exits.DONE

    # What was said, and what has to be asked

    def _check_options(self) -> None:
        answers = self._answers
        if answers.secret_file and answers.secret_env:
            raise _usage("cannot read the secret from two places: give --secret-file or --secret-env")
        if answers.owner and answers.contact:
            raise _usage("cannot take two owners: give --owner-open-id or --owner-contact")
        if answers.domain not in {"", *DOMAINS}:
            raise _usage("cannot use this --domain: it is feishu or lark")
        if answers.owner_name and not answers.owner_name.isprintable():
            raise _usage("cannot use this --owner-name: it has control characters; leave them out")
        for option, value, form, example in (
            ("--app-id", answers.app_id, _APP_ID, "cli_ and letters and digits"),
            ("--base-url", answers.base_url, _ADDRESS, "https://host:port, without a name or password in it"),
            ("--proxy", answers.proxy, _ADDRESS, "http://host:port, without a name or password in it"),
            ("--owner-open-id", answers.owner, _OPEN_ID, "ou_ and letters and digits; every app sees another one"),
            ("--owner-contact", answers.contact, _CONTACT, "an e-mail address, or a mobile number with its +CODE"),
        ):
            # What was given is not repeated: it may be the secret.
            if value and not form.fullmatch(value):
                raise _usage(f"cannot use this {option}: it looks like {example}")
        if self._asks:
            return
        for given, options in (
            (answers.app_id, "--app-id"),
            (answers.secret_file or answers.secret_env, "--secret-file or --secret-env"),
            (answers.owner or answers.contact, "--owner-open-id or --owner-contact"),
            (answers.yes, "--yes"),
        ):
            if not given:
                raise _usage(f"cannot ask, there is no terminal (or --json is given): give {options}")

    def _app_id(self) -> str:
        app_id = self._answers.app_id or terminal.ask(say("ask.app_id"))
        if not _APP_ID.fullmatch(app_id):
            raise _usage("cannot use this app id: it looks like cli_ and letters and digits (--app-id)")
        return app_id

    def _secret(self) -> tuple[Secret, str]:
        """The secret, and the name it has already; "" for one that is to be stored."""
        if self._answers.secret_env:
            reference = f"env:{self._answers.secret_env}"
            return resolve(reference), reference
        if path := self._answers.secret_file:
            return (_piped() if path == "-" else resolve(f"file:{Path(path).absolute()}")), ""
        typed = terminal.ask_secret(say("ask.secret"))
        if _NAMED.fullmatch(typed):
            return resolve(typed), typed
        if not typed:
            raise _usage("cannot go on without the secret: type it, or give --secret-file or --secret-env")
        return Secret(typed), ""

    def _owner(self) -> str:
        """How to find the owner where their open_id is not known; "" to hear them."""
        given = self._answers.owner or self._answers.contact or (terminal.ask(say("ask.owner")) if self._asks else "")
        if _OPEN_ID.fullmatch(given):
            self._found.open_id = given
            return ""
        if not given and not self._answers.wait:
            raise _usage("cannot hear who shall own in 0 s: give --owner-open-id, or more to --wait")
        if given and not _CONTACT.fullmatch(given):
            raise _usage("cannot find an owner by this: give an open_id (ou_...), an e-mail address or a mobile number")
        return given

    # Where the app lives, and how it is

    def _look(self, app_id: str, secret: Secret, contact: str) -> App:
        """The app where the platform knows it.

        Raises:
            ConfigError: it does not.
            RegrowError: kind "no_answer": it cannot be asked.
        """
        self._report.say("tell.trying")
        given = self._answers.base_url.rstrip("/")
        named = [DOMAINS[self._answers.domain]] if self._answers.domain else list(DOMAINS.values())
        refused: list[Check] = []
        for base in [given] if given else named:
            app = App(app_id, secret, base, self._answers.proxy)
            seen = asyncio.run(look(app, self._found, contact))
            if seen[0].state == "ok":
                self._report.say("tell.found", domain=self._domain(base), base=base)
                self._report.show(seen)
                return app
            refused += seen
        # "Wrong secret" says more than another domain's "not here", and either more than no answer.
        first = min(refused, key=lambda one: (one.code == 0, one.code == WRONG_DOMAIN))
        text = f"cannot set up {app_id}: {first.detail}; {first.mend}"
        raise ConfigError(text) if first.code else RegrowError(text, kind="no_answer")

    def _domain(self, base: str) -> str:
        return next((name for name, url in DOMAINS.items() if url == base), self._answers.domain or "feishu")

    def _goes_on(self) -> bool:
        return self._answers.anyway or (self._asks and not self._answers.yes and terminal.yes(say("ask.anyway")))

    # Writing

    def _lines(self, app: App, reference: str, old: FeishuSection | None) -> list[str]:
        name = self._answers.owner_name
        if not name and not self._answers.yes:
            name = terminal.ask(say("ask.name", name=_user()))
        name = name or _user()
        if not name.isprintable():
            raise _usage("cannot use this name: it has control characters; leave them out")
        owner = PersonSection(
            id=section.name_to_id(name),
            name=name,
            role="owner",
            open_id=self._found.open_id,
            union_id=self._found.union_id,
        )
        return section.lines(
            FeishuSection(
                app_id=app.app_id,
                app_secret=reference,
                domain="lark" if self._domain(app.base_url) == "lark" else "feishu",
                base_url="" if app.base_url in DOMAINS.values() else app.base_url,
                proxy=app.proxy,
                people=section.people(old, app.app_id, owner),
            )
        )

    def _kept(self, file: ConfigFile, code: int) -> int:
        self._report.say("tell.kept")
        self._document(file, written=False)
        return code

    def _written(self, file: ConfigFile, stored: _Stored) -> None:
        self._report.say("tell.wrote", path=file.path, backup=file.backup)
        if stored.path is not None:
            self._report.say("tell.secret_at", path=stored.path)
        elif stored.reference.startswith("env:"):
            self._report.say("tell.environment", name=stored.reference.removeprefix("env:"))
        self._report.say("tell.next_restart" if daemon(self._session) else "tell.next", path=file.path)
        self._document(file, written=True)

    def _document(self, file: ConfigFile, *, written: bool) -> None:
        if not self._session.as_json:
            return
        terminal.document(
            {
                "written": written,
                "config": str(file.path),
                "backup": str(file.backup) if written else "",
                "owner": {"open_id": self._found.open_id, "union_id": self._found.union_id},
                "checks": [asdict(one) for one in self._found.checks.values()],
            }
        )


class _Stored:
    """Where the secret is: under a name it has already, or in a file of this user's state directory."""

    def __init__(self, secret: Secret, reference: str, app_id: str) -> None:
        self._secret = secret
        self._before: bytes | None = None
        self.path = None if reference else Places.of().secrets / f"feishu-{app_id}"
        self.reference = reference or f"file:{self.path}"

    def write(self) -> None:
        """Store it, readable for this user alone."""
        if self.path is None:
            return
        try:
            private_directory(self.path.parent)
            self._before = self.path.read_bytes() if self.path.exists() else None
            write_atomic(self.path, self._secret.reveal().encode(), 0o600)
        except OSError as error:
            raise ConfigError(
                f"cannot write {self.path}: {error.strerror}; mend that, or name the secret with --secret-env"
            ) from None

    def take_back(self) -> None:
        """As if nothing had been stored."""
        if self.path is not None and self._before is not None:
            write_atomic(self.path, self._before, 0o600)
        elif self.path is not None:
            self.path.unlink(missing_ok=True)


def _usage(text: str) -> RegrowError:
    return RegrowError(text, kind="usage")


def _piped() -> Secret:
    """The secret from standard input."""
    try:
        value = sys.stdin.buffer.read(_MOST_SECRET + 1).decode().strip()
    except UnicodeDecodeError:
        value = ""  # not chained: the original error carries the bytes
    if not value or len(value) > _MOST_SECRET:
        raise _usage("cannot read the secret from standard input: write it there, as one line of text")
    return Secret(value)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "owner"
