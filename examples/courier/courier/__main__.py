"""`python -m courier` runs the bot; `python -m courier check` looks whether it could, and touches nothing."""

import asyncio
import os
import sqlite3
import sys
from pathlib import Path

from courier.bot import Courier
from courier.claims import Claims, owner
from courier.words import Words

DATABASE = "courier.db"


def settings() -> tuple[str, int, Path]:
    """Where the platform is, and where the state lies. Raises SystemExit."""
    host, colon, port = os.environ.get("COURIER_PLATFORM", "").rpartition(":")
    if not colon or not port.isdigit():
        raise SystemExit("cannot start: set COURIER_PLATFORM to HOST:PORT")
    return host, int(port), Path(os.environ.get("REGROW_STATE", "state"))


def check() -> None:
    """What can be known before the old release stops: the settings, and that its table can be read."""
    _, _, state = settings()
    if (state / DATABASE).exists():
        with sqlite3.connect(f"file:{state / DATABASE}?mode=ro", uri=True) as db:
            db.execute("select event, text, owner, done from claims limit 1").fetchall()


async def run() -> None:
    """Until told to exit."""
    host, port, state = settings()
    state.mkdir(parents=True, exist_ok=True)
    claims = Claims(state / DATABASE, owner(os.environ.get("REGROW_RELEASE", "-")))
    await Courier(host, port, claims, Words()).run()
    claims.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["check"]:
        check()
    else:
        asyncio.run(run())
