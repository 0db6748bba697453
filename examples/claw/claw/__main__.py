"""python -m claw: serve, or say when something is due."""

import argparse
import asyncio
import logging
import os
import sys
from datetime import datetime
from pathlib import Path

from claw import schedule
from claw.message import now
from claw.wording import DEFAULT_ZONE


def main() -> int:
    parser = argparse.ArgumentParser(prog="claw", description="A small chat bot.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    serving = verbs.add_parser("serve", help="answer over HTTP until told to stop")
    serving.add_argument("--bind", default="127.0.0.1:8700", help="host:port, where no socket is handed over")
    serving.add_argument("--state", type=Path, default=Path(os.environ.get("REGROW_STATE") or "state"))
    due = verbs.add_parser("due", help="say when a cron line is due next")
    due.add_argument("cron")
    due.add_argument("--tz", default=DEFAULT_ZONE)
    due.add_argument("--after", type=datetime.fromisoformat, help="ISO 8601; now when left out")
    due.add_argument("--expect", type=datetime.fromisoformat, help="exit with 1 when due at another time")
    given = parser.parse_args()
    return _due(given) if given.verb == "due" else _serve(given)


def _serve(given: argparse.Namespace) -> int:
    from claw.serve import serve

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    asyncio.run(serve(given.state, given.bind))
    return 0


def _due(given: argparse.Namespace) -> int:
    try:
        found = schedule.next_due(given.cron, given.tz, _in_zone(given.after, given.tz) or now())
        expected = _in_zone(given.expect, given.tz)
    except schedule.BadSchedule as error:
        print(error, file=sys.stderr)
        return 2
    print(found.isoformat())
    if expected is not None and expected != found:
        print(f"expected {expected.isoformat()}", file=sys.stderr)
        return 1
    return 0


def _in_zone(at: datetime | None, zone: str) -> datetime | None:
    return at.replace(tzinfo=schedule.zone(zone)) if at is not None and at.tzinfo is None else at


if __name__ == "__main__":
    raise SystemExit(main())
