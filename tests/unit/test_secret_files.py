"""Values in the files that hold secrets by convention."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from regrow import secret_files


def test_the_values_are_known_by_names_that_may_be_told(tmp_path: Path) -> None:
    first, second, third = (secrets.token_hex(12) for _ in range(3))
    (tmp_path / ".env").write_text(
        f"# a remark\nexport API_KEY={first}\nDB='{second} with blanks' # why\nDEBUG=true\nPORT=8080\nEMPTY=\n"
        "HOME_PAGE=https://example.org/a\nPLACE=/var/lib/things\n"
    )
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / ".env.production").write_bytes(f"TOKEN={third}\n".encode() + b"BAD=\xff\xfe\n")
    (tmp_path / "deep" / "server.key").write_text(f"-----BEGIN KEY-----\n{first}\n-----END KEY-----\n")
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / ".env").write_text(f"OTHER={third}\n")
    (tmp_path / "readme.md").write_text(f"KEY={first}\n")
    found = {name: value.reveal() for name, value in secret_files.values(tmp_path).items()}
    assert found == {
        ".env: API_KEY": first,
        ".env: DB": f"{second} with blanks",
        "deep/er/.env.production: TOKEN": third,
        "deep/server.key: the key": f"-----BEGIN KEY-----\n{first}\n-----END KEY-----",
    }


def test_links_fifos_and_what_cannot_be_read_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text(f"KEY={secrets.token_hex(12)}\n")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / ".env").symlink_to(tmp_path / "outside")
    os.mkfifo(tmp_path / "in" / ".env.pipe")
    (tmp_path / "in" / ".env.large").write_bytes(b"x" * 300_000)
    assert secret_files.values(tmp_path / "in") == {}
    assert secret_files.values(tmp_path / "nowhere") == {}
