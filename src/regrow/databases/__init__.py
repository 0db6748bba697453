"""The databases in which a store can live: one SQLite file, or a PostgreSQL server that several daemons share."""

from __future__ import annotations

from pathlib import Path

from regrow.databases.base import Database
from regrow.databases.sqlite import Sqlite
from regrow.secret import Secret, resolve

_URL = "postgresql://"


def database(setting: str, path: Path, host: str) -> tuple[Database, Secret | None]:
    """The database that `[daemon] store` names; nothing is opened or written yet.

    Args:
        setting: "" for the file, a URL without a password, or the name of a secret that holds a URL.
        path: the file of a SQLite store.
        host: the daemon's name among those that share a server.

    Returns:
        The database, and the URL where it was a secret, for the redactor to know.

    Raises:
        ConfigError: the secret is not there, or what it holds is no URL of a PostgreSQL database.
    """
    if not setting:
        return Sqlite(path), None
    from regrow.databases.postgres import Postgres  # its driver is in no one's way who has a file

    secret = None if setting.startswith(_URL) else resolve(setting)
    return Postgres(secret.reveal() if secret else setting, host), secret
