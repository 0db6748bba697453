"""What would be written into a real checkout, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow.config import load
from regrow.drafts import draft, write
from regrow.errors import Refused
from regrow.surveys import reading
from regrow.templates.base import names
from regrow.testing.repositories import Checkout

SERVER = 'if __name__ == "__main__":\n    HTTPServer(("127.0.0.1", 8080), H).serve_forever()\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path / "shop")
    made.commit("Begin", {"serve.py": SERVER})
    return made


async def test_a_proposal_is_written_and_loads(checkout: Checkout) -> None:
    made = await draft(checkout.path, "en")
    assert not (checkout.path / "regrow.toml").exists(), "nothing is written before somebody says so"
    assert write(made) == [checkout.path / "regrow.toml"]
    config = load(checkout.path / "regrow.toml")
    assert (config.service.name, config.service.command) == ("shop", ("{python}", "serve.py"))
    assert config.repository == checkout.path
    assert (await draft(checkout.path, "en")).changes == (), "what is there as it should be is no change"


@pytest.mark.parametrize("name", names())
async def test_a_template_is_written_and_loads(name: str, checkout: Checkout) -> None:
    write(await draft(checkout.path, "zh", template=name))
    assert load(checkout.path / "regrow.toml").service.name == "shop"


async def test_nothing_is_replaced_unless_it_is_said_and_its_text_stays(checkout: Checkout) -> None:
    path = checkout.path / "regrow.toml"
    path.write_text("# mine\n")
    with pytest.raises(Refused) as refused:
        await draft(checkout.path, "en")
    assert refused.value.kind == "exists"
    write(await draft(checkout.path, "en", force=True))
    assert path.with_name("regrow.toml.bak").read_text() == "# mine\n"
    assert load(path).service.name == "shop"


async def test_what_changed_since_it_was_shown_is_not_replaced(checkout: Checkout) -> None:
    made = await draft(checkout.path, "en")
    (checkout.path / "regrow.toml").write_text("# somebody was faster\n")
    with pytest.raises(Refused) as refused:
        write(made)
    assert refused.value.kind == "changed"
    assert (checkout.path / "regrow.toml").read_text() == "# somebody was faster\n"


async def test_without_a_branch_the_branch_is_a_question(checkout: Checkout) -> None:
    checkout.git("checkout", "--quiet", "--detach")
    made = await draft(checkout.path, "en")
    assert [one.reason.key for one in made.questions if one.name == "source.branch"] == ["ask_branch"]
    filled = await draft(checkout.path, "en", template="go")
    assert "branch" in filled.defaults


async def test_a_link_leads_nowhere(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.path / "regrow.toml").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Refused) as refused:
        await draft(checkout.path, "en", force=True)
    assert refused.value.kind == "link"


async def test_only_what_is_committed_is_looked_at(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.path / "package.json").write_text('{"name": "not-committed"}')
    (tmp_path / "secret").write_text('DB = "hidden.db"\n')
    (checkout.path / "link.py").symlink_to(tmp_path / "secret")
    checkout.git("add", "link.py")
    checkout.git("commit", "--quiet", "--message", "A link")
    found = (await draft(checkout.path, "en")).survey
    assert (found.language, found.facts["name"]) == ("python", "shop")
    assert "database" not in found.facts


@pytest.mark.parametrize(("folder", "kind"), [("nowhere", "no_repository"), ("empty", "no_commits")])
async def test_a_folder_that_is_no_repository_is_refused(folder: str, kind: str, tmp_path: Path) -> None:
    Checkout(tmp_path / "empty")
    (tmp_path / "nowhere").mkdir()
    with pytest.raises(Refused, match=r"^cannot ") as refused:
        await draft(tmp_path / folder, "en")
    assert refused.value.kind == kind


async def test_a_folder_inside_of_a_repository_is_told_where_that_begins(checkout: Checkout) -> None:
    (checkout.path / "deep").mkdir()
    with pytest.raises(Refused, match=rf"begins at {checkout.path}; name that folder") as refused:
        await draft(checkout.path / "deep", "en")
    assert refused.value.kind == "no_repository"


async def test_reading_is_bounded(checkout: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_FILES", 3)
    files: dict[str, str | bytes | None] = {f"deep/{number}.py": "x = 1\n" for number in range(5)}
    checkout.commit("More", {**files, "package.json": "{}", "big.py": "#" * 300_000, "raw.py": b"\xff\x00caf\xe9\n"})
    repository = await reading.Repository.open(checkout.path)
    tree = await reading.read(repository, await repository.resolve("HEAD"))
    assert set(tree.texts) == {"package.json", "raw.py", "serve.py"}, (
        "manifests first, then the least deep; none too big"
    )
    assert tree.texts["serve.py"] == SERVER
    assert tree.texts["raw.py"] == "\ufffd\0caf\ufffd\n"
    assert "deep/4.py" in tree.sizes
