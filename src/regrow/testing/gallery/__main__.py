"""Write docs/reference/messages.md anew: `scripts/messages`."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

import structlog

from regrow.testing.gallery import render
from regrow.testing.gallery.page import page


def main(path: str) -> None:
    """Render both languages into a file."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as english, tempfile.TemporaryDirectory() as chinese:
        rendered = page(asyncio.run(render("en", Path(english))), asyncio.run(render("zh", Path(chinese))))
    Path(path).write_text(rendered, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
