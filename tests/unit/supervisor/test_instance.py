"""The table of transitions and the folder's independence."""

import ast
import sys
from pathlib import Path

import regrow.supervisor
from regrow.supervisor.instance import TRANSITIONS


def test_every_state_that_can_follow_is_in_the_table_and_everything_ends():
    for after in TRANSITIONS.values():
        assert set(after) <= set(TRANSITIONS)
    assert all("gone" in after for state, after in TRANSITIONS.items() if state != "gone")


def test_imports_nothing_but_the_standard_library_and_itself():
    for path in Path(regrow.supervisor.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level <= 1
                names = [node.module or ""] if node.level == 0 else []
            else:
                continue
            assert {name.partition(".")[0] for name in names} <= set(sys.stdlib_module_names), path
