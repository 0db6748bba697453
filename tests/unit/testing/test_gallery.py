"""The page of all messages is what the code says now, and no text is missing on it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from regrow.catalogue import texts
from regrow.testing.gallery import render
from regrow.testing.gallery.page import page

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "messages.md"


async def test_the_page_shows_what_people_see_now(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "zh").mkdir()
    rendered = page(await render("en", tmp_path / "en"), await render("zh", tmp_path / "zh"))
    assert PAGE.read_text("utf-8") == rendered, "run scripts/messages, and read what has changed"


async def test_every_text_for_the_chat_is_on_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a language in which every text begins with its own name, what is said shows where it is from."""
    catalogues = tmp_path / "catalogues"
    catalogues.mkdir()
    monkeypatch.setenv("REGROW_CATALOGUES", str(catalogues))
    known = {key: text for part in ("", "setup") for key, text in texts("en", part).items()}
    lines = (f"{json.dumps(key)} = {json.dumps(f'⟦{key}⟧{text}', ensure_ascii=False)}\n" for key, text in known.items())
    (catalogues / "xx.toml").write_text("".join(lines))
    (tmp_path / "xx").mkdir()
    messages = await render("xx", tmp_path / "xx")
    said = {key for one in messages for key in re.findall(r"⟦([\w.*]+)⟧", "\n".join((one.text, *one.buttons)))}
    wanted = {key for key in known if not key.startswith("setup.") or key.startswith("setup.card.")}
    assert sorted(wanted - said) == []
