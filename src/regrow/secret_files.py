"""The values in the files of a checkout that hold secrets by convention, so that they are known wherever text goes.

A box shows such a file empty, but a value can lie elsewhere as well: in an older commit, in a log line, in an example.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pathspec import GitIgnoreSpec

from regrow.gate import SECRET_FILES
from regrow.secret import Secret

_LONGEST_FILE = 256 * 1024
_DEEPEST = 6
_MOST = 200
_SHORTEST = 8
"""Characters; "true", "8080" and "production" are in such files too."""
_NOT_LOOKED_INTO = frozenset({".git", "node_modules", ".venv", "venv", "target", "__pycache__", "vendor"})
_LINE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*[=:]\s*(.+?)\s*$")
_PLAIN = re.compile(r"[a-z]+|[\d.:]+|/[\w/.-]*|[a-z]+://[^@\s]*", re.IGNORECASE)


def values(checkout: Path) -> dict[str, Secret]:
    """The values by a name that may be told, as ".env: API_KEY".

    Args:
        checkout: a directory; links in it are not followed.
    """
    spec = GitIgnoreSpec.from_lines(SECRET_FILES)
    found: dict[str, Secret] = {}
    for directory, below, names in os.walk(checkout):
        inside = Path(directory).relative_to(checkout)
        deep = len(inside.parts) >= _DEEPEST
        below[:] = [] if deep else sorted(name for name in below if name not in _NOT_LOOKED_INTO)
        for name in sorted(names):
            path = inside / name
            if spec.match_file(str(path)) and len(found) < _MOST:
                found |= {f"{path}: {key}": Secret(value) for key, value in _read(checkout / path).items()}
    return found


def _read(path: Path) -> dict[str, str]:
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > _LONGEST_FILE:
            return {}
        text = path.read_bytes().decode(errors="replace")
    except OSError:
        return {}
    if "-----BEGIN" in text:
        return {"the key": text.strip()}
    named = [match for line in text.splitlines() if (match := _LINE.match(line))]
    pairs = {match[1]: _bare(match[2]) for match in named}
    return {key: value for key, value in pairs.items() if len(value) >= _SHORTEST and not _PLAIN.fullmatch(value)}


def _bare(value: str) -> str:
    """Without quotation marks, or a remark behind it."""
    if value[0] in "\"'" and value.rfind(value[0]) > 0:
        return value[1 : value.rfind(value[0])]
    return re.split(r"\s#", value)[0].strip()
