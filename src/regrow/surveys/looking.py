"""The order in which a repository is looked at: its language first, then what all languages have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from regrow.surveys import golang, node, python, rust
from regrow.surveys.base import GO, NODE, PYTHON, RUST, Machine, Survey, Tree
from regrow.surveys.common import finish

_LANGUAGES: Mapping[str, Callable[[Tree, Survey], None]] = MappingProxyType(
    {GO: golang.look, RUST: rust.look, PYTHON: python.look, NODE: node.look}
)
# In this order: a Go, Rust or Python service often has a package.json for its pages, and never the other way about.
_SHOWN_BY = (
    (GO, ("go.mod",)),
    (RUST, ("Cargo.toml",)),
    (PYTHON, ("pyproject.toml", "requirements.txt", "setup.py", "manage.py")),
    (NODE, ("package.json",)),
)
_SUFFIXES = ((PYTHON, ".py"), (NODE, ".js"), (NODE, ".mjs"))


def survey(tree: Tree, folder: str, branch: str, machine: Machine | None = None) -> Survey:
    """What the files show, in the order of the reference.

    Args:
        tree: the files of one commit.
        folder: the name of the checkout's folder, for a service whose files name it nowhere.
        branch: the branch that is checked out; "": none is.
        machine: what this machine has; nothing is known of it when None.
    """
    found = Survey(facts={"branch": branch} if branch else {})
    found.language, found.shown_by = _language(tree)
    if found.language:
        _LANGUAGES[found.language](tree, found)
    finish(tree, found, folder, branch, machine or Machine())
    return found


def _language(tree: Tree) -> tuple[str, str]:
    for language, names in _SHOWN_BY:
        for name in names:
            if name in tree.sizes:
                return language, name
    for language, suffix in _SUFFIXES:
        for path, _ in tree.sources(suffix):
            return language, path
    return "", ""
