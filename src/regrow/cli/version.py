"""`regrow version`."""

from __future__ import annotations

from regrow import __version__
from regrow.cli import exits, terminal
from regrow.cli.options import AsJson


def version(as_json: AsJson = False) -> int:
    """Print the version of this command."""
    terminal.document({"version": __version__}) if as_json else terminal.line(f"regrow {__version__}")
    return exits.DONE
