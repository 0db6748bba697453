"""All the parts that care for one service, built once by the daemon and handed to its jobs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from regrow import files, probes, process, sqlite_files
from regrow.agents.base import Agent
from regrow.config import Config
from regrow.errors import ProcessError, Refused
from regrow.freezes import Freezes
from regrow.gate import Gate
from regrow.git import Repository
from regrow.idle import Idle
from regrow.models.gateway import ModelGateway
from regrow.pool import in_thread
from regrow.quiet import Quiet
from regrow.redact import Redactor
from regrow.releases import Release, Releases
from regrow.sandboxes.base import Sandbox
from regrow.services.base import ReleaseSpec, Restart, Service, Socket
from regrow.snapshots import Schema, Snapshots
from regrow.workspaces import Workspaces

OWN = "regrow.toml"
"""What Regrow's own file of settings is called; the service's own go by what `[config] files` calls them."""
_SCHEMA_S = 30.0


@dataclass
class Care:
    """One service and everything that works on it.

    Attributes:
        config: its `regrow.toml`; see `configure`.
        directory: its state below Regrow's own: releases, workspaces, snapshots, logs, supervisor.json.
        service: the driver that starts, switches and stops it.
        agents: makes the repairing agent of a name, "" for the one set.
        idle: whether anything would be interrupted.
        freezes: whether anybody may change it.
        quiet: the hours in which what can wait does.
        models: the way to the model that is set, for agents that need one.
    """

    config: Config
    directory: Path
    service: Service
    repository: Repository
    releases: Releases
    workspaces: Workspaces
    snapshots: Snapshots
    sandbox: Sandbox
    agents: Callable[[str], Agent]
    idle: Idle
    freezes: Freezes
    quiet: Quiet
    gate: Gate
    redactor: Redactor
    models: ModelGateway | None = None

    def configure(self, config: Config) -> None:
        """From now on these are the settings. Only those of `settable` may differ: others were read at the start."""
        self.config = config

    def settings_file(self, name: str) -> Path:
        """The path of a file of settings: `regrow.toml`, or one that `[config] files` names."""
        if name == OWN:
            return self.config.path
        (word,) = self.config.expand((name,), state=str(self.state))
        return self.config.path.parent / word

    @property
    def name(self) -> str:
        """The service's name."""
        return self.config.service.name

    @property
    def state(self) -> Path:
        """The service's own data directory, REGROW_STATE."""
        named = self.config.state.directory
        return (self.config.path.parent / named).resolve() if named else self.directory / "data"

    @property
    def cache(self) -> Path:
        """The build cache kept between jobs."""
        return self.directory / "cache"

    def made_cache(self) -> Path:
        """`cache`, there. Nobody else gets into the directories above it; a test's own user must be able to read it."""
        made = files.private_directory(self.cache)
        made.chmod(0o755)
        return made

    @property
    def databases(self) -> list[Path]:
        """The service's SQLite files."""
        return [self.state / name for name in self.config.state.sqlite]

    async def schema(self, state: Path | None = None) -> Schema:
        """Names the schema of the service's data: what `[state] schema_command` prints, else each database's own.

        Args:
            state: a directory with a copy of the data; the service's own when None.

        Raises:
            Refused: kind "no_schema", where it cannot be told.
        """
        state = state or self.state
        present = [name for name in self.config.state.sqlite if (state / name).exists()]
        if not present:
            return {}
        try:
            if command := self.config.state.schema_command:
                done = await process.run(self.config.expand(command, state=str(state)), timeout_s=_SCHEMA_S)
                return {"command": " ".join(done.check("tell the schema").output.split())[:1000]}
            return {Path(name).name: await in_thread(sqlite_files.schema, state / name) for name in present}
        except (sqlite3.Error, ProcessError) as error:
            raise Refused(
                f"cannot tell the schema of the data: {error}; mend the database or [state] schema_command",
                kind="no_schema",
            ) from error

    def job_log(self, job: int) -> Path:
        """The full, redacted log of a job."""
        return self.directory / "jobs" / f"{job}.log"

    def agent_home(self, job: int) -> Path:
        """The directory that is an agent's HOME in its conversation that began with a job."""
        return self.directory / "agents" / str(job)

    def release_log(self, release: str) -> Path:
        """What a release printed."""
        return self.directory / "logs" / f"{release}.log"

    def spec(self, release: Release, config: Config | None = None) -> ReleaseSpec:
        """What the supervisor must know to start `release`, now or by itself at night.

        Args:
            release: which.
            config: with other settings than those of now.
        """
        config = config or self.config
        service, switch = config.service, config.switch
        return ReleaseSpec(
            id=release.id,
            digest=release.digest,
            commit=release.commit,
            version=release.version,
            argv=tuple(config.expand(service.command, release=str(release.directory), state=str(self.state))),
            cwd=str(release.directory),
            # A release is immutable, also for what runs from it.
            env={"PYTHONDONTWRITEBYTECODE": "1"} | service.env | {"REGROW_STATE": str(self.state)},
            secrets=dict(service.secrets),
            sockets=tuple(Socket(name, address) for name, address in service.listen.items()),
            handover=service.effective_handover,
            standby=service.standby,
            pause_signal=service.pause_signal,
            resume_signal=service.resume_signal,
            probe_socket=service.probe_socket,
            trap_bind=service.trap_bind,
            ready=service.ready,
            probes=probes.specs(config),
            start_timeout_s=service.start_timeout,
            drain_timeout_s=service.drain,
            stop_timeout_s=service.stop_timeout,
            stop_signal=service.stop_signal,
            log=str(self.release_log(release.id)),
            log_bytes=service.log_size,
            log_keep=service.log_keep,
            restart=Restart(
                backoff_s=switch.crash_backoff,
                backoff_max_s=switch.crash_backoff_max,
                limit=switch.crash_limit,
                window_s=switch.crash_window,
            ),
        )

    async def serving(self) -> Release | None:
        """The release that serves now, as the supervisor knows it; None when none does."""
        active = (await self.service.status()).active
        return None if active is None else await self.releases.get(active.release)


def for_people(cares: Mapping[str, Care], text: str) -> str:
    """The text as a chat may see it, whichever of the services it speaks of."""
    for care in cares.values():
        text = care.redactor.for_people(text)
    return text
