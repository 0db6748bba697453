"""The tree of errors.

    RegrowError                kind            who branches on it
    ├── ConfigError            config          start-up: exit code 78
    ├── Refused                (given)         a request that is understood and not done: exit code 5
    ├── NotFound               not_found       API 404
    ├── StoreError             store           the daemon stops with exit code 75
    ├── ProcessError           process         a command that could not be run
    │   ├── ProcessFailed      process_failed  ended with a code other than 0
    │   └── ProcessTimeout     process_timeout was ended at its deadline
    └── ServiceError           (given)         the supervisor or a driver refused or failed
        └── CandidateFailed    candidate_failed

Every text starts with "cannot" and says what to do next. Callers branch on the class or on `kind`, never on text.
"""

from __future__ import annotations


class RegrowError(Exception):
    """An expected failure, told to a person in one line.

    Args:
        message: one sentence that starts with "cannot" and says what to do next.
        kind: stable word for programs; the class's own when not given.
        log: longer text kept for the job's log, never shown in chat.
        values: what the sentence for people needs, where the catalogue has one for this kind.
    """

    kind: str = "error"

    def __init__(self, message: str, *, kind: str | None = None, log: str = "", **values: object) -> None:
        super().__init__(message)
        if kind is not None:
            self.kind = kind
        self.log = log
        self.values = values


class ConfigError(RegrowError):
    """The configuration cannot be used as it is."""

    kind = "config"


class Refused(RegrowError):
    """A request was understood and is not carried out; nothing has changed."""

    kind = "refused"


class NotFound(RegrowError):
    """The thing named does not exist."""

    kind = "not_found"


class StoreError(RegrowError):
    """The store on disk cannot be used; the daemon stops rather than guess."""

    kind = "store"


class ProcessError(RegrowError):
    """A command could not be run."""

    kind = "process"


class ProcessFailed(ProcessError):
    """A command ended with a code other than 0."""

    kind = "process_failed"

    def __init__(self, message: str, *, code: int, log: str = "") -> None:
        super().__init__(message, log=log)
        self.code = code


class ProcessTimeout(ProcessError):
    """A command was ended because its deadline passed."""

    kind = "process_timeout"


class ServiceError(RegrowError):
    """The supervisor or a service driver refused or failed."""

    kind = "service"


class CandidateFailed(ServiceError):
    """A candidate died, failed a probe or reported another version before it was switched to.

    Args:
        cause: one line, e.g. "exit code 1: ModuleNotFoundError: No module named 'claw.x'".
        log_tail: the last lines of the candidate's own log.
    """

    kind = "candidate_failed"

    def __init__(self, cause: str, *, log_tail: str = "") -> None:
        super().__init__(f"cannot start the candidate: {cause}", log=log_tail)
        self.cause = cause
        self.log_tail = log_tail
