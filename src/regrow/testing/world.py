"""A whole world on this machine for tests: a git repository, a regrow.toml, a real daemon, a real supervisor and the
tiny service, in directories and on ports of its own. People talk to it over the chat, as they would.

The repository holds the tiny service, a build script that copies it, and a test script. Each script waits while a gate
of its name stands (`hold`), so a test can act in the middle of a build or of a test run and never sleeps.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import psycopg

import regrow
from regrow import files
from regrow.api.client import Client
from regrow.api.types import ENDED, ChatBody, Job, Message, RequestBody, Snapshot, Status
from regrow.errors import Refused, RegrowError
from regrow.places import Places
from regrow.services.embedded import EmbeddedService
from regrow.testing import tiny_service
from regrow.testing.ports import free_ports
from regrow.testing.repositories import Checkout
from regrow.testing.service_system import Traffic

NAME = "tiny"
SUPERVISOR = b"supervisor/__main__.py"
DEADLINE_S = 60.0
T = TypeVar("T")
Settings = Mapping[str, Mapping[str, Any] | None]
_LOOK_S = 0.02
_PACE_S = 0.005
_NOT_YET = frozenset({"no_daemon", "lost", "no_answer", "starting", "stopping"})

_SERVE = """\
import os, pathlib, runpy, time
while os.path.exists(os.environ["GATES"] + "/start"):
    time.sleep(0.02)
here = pathlib.Path(__file__).parent
os.environ["TINY_VERSION"] = (here / "VERSION").read_text().strip()
for line in (here / "faults").read_text().split():
    name, _, value = line.partition("=")
    os.environ[name] = value
runpy.run_path(str(here / "tiny_service.py"), run_name="__main__")
"""
_BUILD = """\
set -eu
echo "[1/2] copying"
while [ -e "$GATES/build" ]; do sleep 0.02; done
cp -r serve.py tiny_service.py faults src "$1"
echo "$REGROW_VERSION" > "$1/VERSION"
echo "[2/2] copied"
"""
_TEST = """\
set -eu
while [ -e "$GATES/test" ]; do sleep 0.02; done
test -s src/answer.txt
"""


class World:
    """One service under the care of one daemon.

    Args:
        root: an empty directory.
        settings: sections of regrow.toml by name, merged over the world's own; "probe.health" names a table, and None
            leaves a section out.
        database: the URL of a PostgreSQL database for the store; "": a file of the world's own.
        host: the daemon's name among those that share a database.
    """

    def __init__(self, root: Path, settings: Settings | None = None, database: str = "", host: str = "local") -> None:
        self.root = root
        self.database = database
        self.host = host
        self.state = root / "state"
        # A unix socket's path has at most 107 bytes; a test's own directory is longer.
        self.runtime = Path(tempfile.mkdtemp(prefix="regrow-"))
        self.places = Places(self.state, self.runtime, self.runtime / "daemon.sock")
        self.directory = self.places.service(NAME)
        self.gates = root / "gates"
        self.gates.mkdir(parents=True)
        self.port, self.console_port, self.spare_port = free_ports(3)
        self.checkout = Checkout(root / "checkout")
        self.bare = root / "source.git"
        self.config = root / "regrow.toml"
        self.settings: dict[str, dict[str, Any]] = self._defaults()
        self.process: subprocess.Popen[bytes] | None = None
        self.log = root / "daemon.log"
        self._chats = 0
        begin: dict[str, str | bytes | None] = {
            "serve.py": _SERVE,
            "tiny_service.py": Path(tiny_service.__file__).read_bytes(),
            "build.sh": _BUILD,
            "test.sh": _TEST,
            "faults": "",
            "src/answer.txt": "good\n",
        }
        self.first = self.checkout.commit("Begin", begin)
        self.checkout.git("clone", "--quiet", "--bare", str(self.checkout.path), str(self.bare))
        self.checkout.git("remote", "add", "origin", str(self.bare))
        self.configure(settings or {})

    def _defaults(self) -> dict[str, dict[str, Any]]:
        gates = {"GATES": str(self.gates)}
        return {
            "service": {
                "name": NAME,
                "command": ["{python}", "-I", "-S", "serve.py"],
                "ready": "notify",
                "standby": "paused",
                "probe_socket": True,
                "drain": "1s",
                "stop_timeout": "2s",
            },
            "service.env": gates,
            "service.listen": {"http": f"127.0.0.1:{self.port}"},
            "source": {"repository": "source.git"},
            "probe.health": {"target": "/health", "interval": "100ms", "version": "version"},
            "build": {"command": ["/bin/sh", "build.sh", "{out}"], "timeout": "60s"},
            "build.env": gates,
            "test": {"command": ["/bin/sh", "test.sh"], "timeout": "60s"},
            "test.env": gates,
            "repair": {"allowed": ["src/**"]},
            "sandbox": {"readable": ["{python}", "gates"]},
            "switch": {"bake": "400ms", "restart_bake": "50ms"},
            "daemon": {
                "console": f"127.0.0.1:{self.console_port}",
                "host": self.host,
                "store": self.database,
            },
        }

    # What a person does with files and git

    def configure(self, changes: Settings) -> None:
        """Change settings and write regrow.toml."""
        for section, values in changes.items():
            if values is None:
                self.settings.pop(section, None)
            else:
                self.settings.setdefault(section, {}).update(values)
        self.config.write_text(to_toml(self.settings))

    def forward(self, **settings: Any) -> Path:
        """Have the chat forwarded to the service; returns the file in which it writes down what it was told."""
        told = self.root / "chat.log"
        url = f"http://127.0.0.1:{self.port}/chat"
        self.configure({"chat": {"forward": url, **settings}, "service.env": {"TINY_CHAT": str(told)}})
        return told

    def commit(self, files: Mapping[str, str | bytes | None], message: str = "Change") -> str:
        """Pull, commit to main and push as a person would, and return the full id."""
        self.checkout.git("fetch", "--quiet", "origin", "main")
        self.checkout.git("reset", "--quiet", "--hard", "FETCH_HEAD")
        made = self.checkout.commit(message, files)
        self.checkout.git("push", "--quiet", "origin", "HEAD:main")
        return made

    def head(self, branch: str = "main") -> str:
        """The full id of a branch of the service's repository."""
        return self.checkout.git("--git-dir", str(self.bare), "rev-parse", f"refs/heads/{branch}")

    def short(self, commit: str) -> str:
        """The version that a release of `commit` reports."""
        return self.checkout.git("--git-dir", str(self.bare), "rev-parse", "--short", commit)

    def hold(self, gate: str) -> None:
        """Make every "build", "test" or "start" of the service wait from now on."""
        (self.gates / gate).touch()

    def let_go(self, gate: str) -> None:
        """Let them go on."""
        (self.gates / gate).unlink(missing_ok=True)

    # The daemon

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables of the daemon and of the command line of this world."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGROW_", "XDG_"))}
        places = {"REGROW_STATE_DIR": str(self.state), "REGROW_RUNTIME_DIR": str(self.runtime)}
        # The daemon runs elsewhere: a relative PYTHONPATH of the tests would lead nowhere there.
        package = str(Path(regrow.__file__).parents[1])
        return {**kept, "HOME": str(self.root), "LANG": "C.UTF-8", "PYTHONPATH": package, **places, **(extra or {})}

    def launch(self, env: Mapping[str, str] | None = None, module: str = "regrow.daemon") -> subprocess.Popen[bytes]:
        """Start a daemon and return at once."""
        with self.log.open("ab") as log:
            return subprocess.Popen(
                (sys.executable, "-m", module, "--config", str(self.config)),
                env=self.environment(env),
                cwd=self.root,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def start_daemon(self, env: Mapping[str, str] | None = None, module: str = "regrow.daemon") -> None:
        """Start the daemon, which may be running, and wait until it is ready; one that is killed need not get there.

        Raises:
            AssertionError: it ended by itself before it was ready.
        """
        if self.process is not None:
            await self.kill_daemon()
        process = self.process = self.launch(env, module)

        async def ready() -> bool:
            if process.poll() is not None:
                if process.returncode == -signal.SIGKILL:
                    return True
                raise AssertionError(f"the daemon ended with {process.returncode}: {self.log.read_text()[-2000:]}")
            return (await self.status()).daemon.ready_ms > 0

        await eventually(ready, "the daemon is ready")

    async def run(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments where the daemon runs: ("-m", "regrow.cli", "status")."""
        return await asyncio.to_thread(
            subprocess.run,
            (sys.executable, *words),
            env=self.environment(env),
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    async def cli(self, *words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Run the command line."""
        return await self.run("-m", "regrow.cli", *words, env=env)

    async def kill_daemon(self, number: int = signal.SIGKILL) -> int:
        """Send the daemon a signal and wait for its end; returns its exit code, minus the signal if one ended it."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return await self.daemon_ended()

    async def kill_everything(self) -> None:
        """Kill the daemon, the service and its supervisor at one blow, as a machine does that loses its power."""
        record = json.loads((self.directory / "supervisor.json").read_text())
        pids = [one["pid"] for one in record["instances"].values() if one["pid"]]
        pids += _supervisors(self.directory)
        if self.process is not None:
            pids.insert(0, self.process.pid)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            await self.daemon_ended()

    async def daemon_ended(self) -> int:
        """Wait for the daemon's end and return its exit code."""
        assert self.process is not None
        code = await asyncio.to_thread(self.process.wait, DEADLINE_S)
        self.process = None
        return code

    async def bring_up(self) -> None:
        """Start the daemon for the first time and wait until the first release serves and nothing is under way."""
        await self.start_daemon()
        await self.settled()

    async def close(self) -> None:
        """End everything this world started."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            await self.kill_daemon()
        with contextlib.suppress(RegrowError):  # one that `cli("up")` started
            await asyncio.to_thread(lambda: self.client().stop(services=True))
            await eventually(self._unlocked, "the daemon ends")
        if (self.directory / "supervisor.json").exists():
            driver = EmbeddedService(NAME, self.directory, self.runtime)
            async with asyncio.timeout(DEADLINE_S):
                await driver.close(keep_service=False)
        shutil.rmtree(self.runtime, ignore_errors=True)

    async def _unlocked(self) -> bool:
        try:
            with files.exclusive_lock(self.state / "daemon.lock", "daemon"):
                return True
        except Refused:
            return False

    # What the daemon says of itself

    def client(self) -> Client:
        """A client that does not wait for a daemon that is away."""
        return Client(self.places.socket, patience_s=0.0)

    async def status(self) -> Status:
        """The whole state."""
        return await asyncio.to_thread(lambda: self.client().status())

    async def job(self, number: int) -> Job:
        """One job."""
        return await asyncio.to_thread(lambda: self.client().job(number))

    async def jobs(self) -> list[Job]:
        """All jobs, newest first."""
        return await asyncio.to_thread(lambda: self.client().jobs(1000))

    async def request(self, intent: str, **args: str) -> int:
        """Ask over the API and return the job's number."""
        body = RequestBody(intent=intent, args=args, key=uuid.uuid4().hex)
        accepted = await asyncio.to_thread(lambda: self.client().request(body))
        return int(getattr(accepted, "job"))  # noqa: B009  an Answer has none, and that is a failure

    async def step(self, number: int, name: str, *status: str) -> Job:
        """Wait until a step of a job has one of the statuses."""

        async def there() -> Job | None:
            job = await self.job(number)
            found = next(step.status for step in job.steps if step.name == name)
            if job.status in ENDED and found not in status:
                raise AssertionError(f"job {number} ended as {job.status} with {name} {found}: {job.error}")
            return job if found in status else None

        return await eventually(there, f"step {name} of job {number} is {' or '.join(status)}")

    async def ended(self, number: int) -> Job:
        """Wait until a job has ended."""

        async def there() -> Job | None:
            job = await self.job(number)
            return job if job.status in ENDED else None

        return await eventually(there, f"job {number} has ended")

    async def settled(self) -> list[Job]:
        """Wait until a job was asked for and every job has ended and every message is sent; newest first."""
        return await self.settled_of(self.settings["service"]["name"])

    async def settled_of(self, service: str) -> list[Job]:
        """The same of the jobs of one service."""

        async def there() -> list[Job] | None:
            jobs = [job for job in await self.jobs() if job.service == service]
            done = bool(jobs) and all(job.status in ENDED for job in jobs)
            return jobs if done and (await self.status()).outbox_waiting == 0 else None

        return await eventually(there, "every job has ended")

    async def snapshots(self) -> list[Snapshot]:
        """Snapshots of the service's data, newest first."""
        return await asyncio.to_thread(lambda: self.client().snapshots())

    def facts(self, number: int) -> dict[str, Any]:
        """All facts of a job, those too that nobody is shown."""
        [(found,)] = self.rows(f"select result from jobs where id = {number}")  # noqa: S608
        facts: dict[str, Any] = json.loads(found) if isinstance(found, str) else found  # a server gives what JSON says
        return facts

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Look into the daemon's store, which may be running."""
        if self.database:
            schema = f"-c search_path=regrow_{self.host}"
            with psycopg.connect(self.database, options=schema, autocommit=True) as server:
                return server.execute(query.encode()).fetchall()
        with contextlib.closing(sqlite3.connect(f"file:{self.places.database}?mode=ro", uri=True)) as store:
            return store.execute(query).fetchall()

    def change(self, statement: str) -> None:
        """Change the daemon's store by one statement, while no daemon runs."""
        if self.database:
            with psycopg.connect(
                self.database, options=f"-c search_path=regrow_{self.host}", autocommit=True
            ) as server:
                server.execute(statement.encode())
            return
        with contextlib.closing(sqlite3.connect(self.places.database)) as store, store:
            store.execute(statement)

    # Talking

    def new_chat(self) -> str:
        """The name of a chat in which nothing was said yet."""
        self._chats += 1
        return f"chat-{self._chats}"

    async def tell(self, text: str, chat: str | None = None) -> Message:
        """Say something and return it as stored, without waiting for an answer."""
        body = ChatBody(channel="web", chat=chat or self.new_chat(), text=text, key=uuid.uuid4().hex)
        return await eventually(lambda: asyncio.to_thread(lambda: self.client().say(body)), f"{text!r} is taken")

    async def heard(self, said: Message) -> list[Message]:
        """What Regrow said in the chat of `said` after it, oldest first."""
        found = await asyncio.to_thread(lambda: self.client().messages(said.channel, said.chat, said.id))
        return [message for message in found if not message.mine]

    def heard_of(self, said: Message) -> list[str]:
        """As `heard`, however much it was: read from the store, which may be without a daemon."""
        query = f"select text from messages where chat = '{said.chat}' and not mine and id > {said.id} order by id"  # noqa: S608  names of our own
        return [row[0] for row in self.rows(query)]

    async def asked(self, text: str, chat: str | None = None) -> int:
        """Say something that asks for a job, and return the job's number once it is told of."""
        said = await self.tell(text, chat)

        async def there() -> int | None:
            heard = await self.heard(said)
            if heard and heard[0].job is None:
                raise AssertionError(f"{text!r} was answered by {heard[0].text!r}")
            return heard[0].job if heard else None

        return await eventually(there, f"a job for {text!r}")

    async def asked_of_the_dying(self, text: str, yes: str = "") -> int:
        """As `asked`, of a daemon that may die before it has told of the job: then the store knows its number.

        Args:
            text: what is said.
            yes: the answer to the question that is asked back; "" when none is.
        """
        said = await self.tell(text)
        if yes:

            async def asked_back() -> bool:
                return bool(await self.heard(said))

            await eventually(asked_back, f"a question about {text!r}")
            await self.tell(yes, said.chat)

        async def there() -> int | None:
            found = self.rows(f"select id from jobs where chat = '{said.chat}'")  # noqa: S608  a name of our own
            return int(found[0][0]) if found else None

        return await eventually(there, f"a job for {text!r}")

    async def approve(self, number: int) -> None:
        """Approve a job's change as it stands, unless it was decided meanwhile."""

        async def done() -> bool:
            approval = (await self.job(number)).approval
            if approval is not None and approval.state == "open":
                await asyncio.to_thread(lambda: self.client().approve(number, approval.digest))
            return approval is not None

        await eventually(done, f"job {number} is approved")

    async def answer(self, text: str, chat: str | None = None) -> str:
        """Say something that is answered at once, and return the answer."""
        said = await self.tell(text, chat)

        async def there() -> str | None:
            return next((message.text for message in await self.heard(said) if message.job is None), None)

        return await eventually(there, f"an answer to {text!r}")

    async def said(self, number: int) -> list[Message]:
        """The messages that tell of a job, once it has ended and all of them are sent."""
        job = await self.ended(number)

        async def there() -> list[Message] | None:
            found = await asyncio.to_thread(lambda: self.client().messages(job.channel, job.chat))
            told = [message for message in found if message.job == number]
            sent = (await self.status()).outbox_waiting == 0
            return told if sent and len(told) > 1 else None

        return await eventually(there, f"the result of job {number} is told")

    async def say(self, text: str, chat: str | None = None) -> str:
        """Say something that asks for a job, wait for its end, and return the message that tells of it."""
        return (await self.said(await self.asked(text, chat)))[-1].text

    async def press(self, number: int, word: str) -> str:
        """Press the button of a job's live message whose action begins with `word`; returns the text shown."""
        job = await self.job(number)

        async def there() -> tuple[int, str] | None:
            found = await asyncio.to_thread(lambda: self.client().messages(job.channel, job.chat))
            for message in found:
                for button in message.buttons:
                    if message.job == number and button.action.startswith(word):
                        return message.id, button.action
            return None

        message, action = await eventually(there, f"a button {word} of job {number}")
        result = await asyncio.to_thread(lambda: self.client().press(message, action))
        assert result.ok, result.text
        return result.text

    # The service itself

    async def version(self) -> str:
        """The version that answers now, as the service itself says."""
        return str((await self._ask())["version"])

    async def pid(self) -> int:
        """The process that answers now."""
        return int((await self._ask())["pid"])

    async def _ask(self) -> dict[str, Any]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
        data: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return data

    @contextlib.asynccontextmanager
    async def traffic(self) -> AsyncIterator[Traffic]:
        """A client that asks the service again and again, each time on a new connection, until the block ends."""
        seen = Traffic()
        over = asyncio.Event()

        async def client() -> None:
            while not over.is_set():
                try:
                    async with asyncio.timeout(10.0):
                        version = await self.version()
                    seen.answers[version] = seen.answers.get(version, 0) + 1
                except ConnectionRefusedError:
                    seen.refused += 1
                except (OSError, ValueError):
                    seen.cut += 1
                await asyncio.sleep(_PACE_S)  # a pace, so that the machine is left to what is tested

        task = asyncio.create_task(client())
        try:
            yield seen
        finally:
            over.set()
            await task


def _supervisors(directory: Path) -> list[int]:
    """Pids of the supervisors of a service's directory, by their command lines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if str(directory).encode() in words and any(one.endswith(SUPERVISOR) for one in words):
                found.append(int(path.parent.name))
    return found


async def eventually(look: Callable[[], Awaitable[T | None]], what: str, seconds: float = DEADLINE_S) -> T:
    """Look again and again until there is something true to see, and return it.

    A daemon that is away counts as "not yet".

    Raises:
        AssertionError: it was not to be seen within `seconds`.
    """
    try:
        async with asyncio.timeout(seconds):
            while True:
                try:
                    if found := await look():
                        return found
                except RegrowError as error:
                    if error.kind not in _NOT_YET:
                        raise
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        raise AssertionError(f"not within {seconds:g} s: {what}") from None


def to_toml(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """Sections as TOML; values are strings, numbers, booleans and lists of them, which TOML writes as JSON does."""
    lines: list[str] = []
    for name, values in sections.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items()), ""]
    return "\n".join(lines)
