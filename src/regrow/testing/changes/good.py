"""Changes that a careful person would take: every bug mended in several ways, and what is odd and right."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from regrow.testing.changes.project import BASE, BUGS, BY_NAME, SHELL, Bug, code
from regrow.testing.changes.runs import Case


def _ways(bug: Bug) -> list[Case]:
    """The same bug mended in different ways, proved in different ways."""
    text = bug.fixed
    commented = re.sub(r"^( +)(return|found)\b", r"\1# 报告里的问题在这里 🛠\n\1\2", text, count=1, flags=re.MULTILINE)
    tests_too: dict[str, Any] = {"allowed": '["src/**", "tests/**"]', "reproduce": "off"}
    return [
        Case(f"{bug.name}/script", "by the report's command", True, {bug.path: text}, script=bug.script, told=bug.told),
        Case(f"{bug.name}/test", "by a test written first", True, {bug.path: text}, {bug.test_path: bug.test()}, told=bug.told),
        Case(f"{bug.name}/other", "another way", True, {bug.path: bug.other}, {bug.test_path: bug.test(*bug.also)}, told=bug.told),
        Case(f"{bug.name}/own-test", "with a test of its own", True, {bug.path: text, bug.test_path: bug.test(*bug.also)},
             told=bug.told, **tests_too),
        Case(f"{bug.name}/comment", "with a comment", True, {bug.path: commented}, script=bug.script, told=bug.told),
    ]  # fmt: skip


MONEY, SLUGS, PAGES, WAITS, NAMES = (BY_NAME[name] for name in ("money", "slugs", "pages", "waits", "names"))
_RED = code(
    """
    import unittest


    class RedTest(unittest.TestCase):
        def test_red(self):
            self.fail("known for years")
    """
)
_LUCK = code(
    """
    import random
    import unittest


    class LuckTest(unittest.TestCase):
        def test_luck(self):
            self.assertLess(random.random(), 0.5)
    """
)
_HELPED = {
    "src/shop/waits.py": WAITS.fixed.replace("MOST = 60\n", "from shop.limits import MOST\n"),
    "src/shop/limits.py": '"""Limits of waits."""\n\nMOST = 60\n',
}


def _run_bit(root: Path) -> None:
    path = root / "src/tool.sh"
    path.write_text("#!/bin/sh\necho tool 2\n")
    path.chmod(0o755)


GREET = Case(
    "shell/script",
    "no names",
    True,
    {"src/count.sh": "echo $(($1 + $2))\n"},
    script='test "$(sh src/count.sh 2 2)" = 4',
    project=SHELL,
    tests='["/bin/sh", "test.sh"]',
    build="[]",
)
ODD = (
    Case("odd/red-test", "other tests fail", True, {MONEY.path: MONEY.fixed}, {MONEY.test_path: MONEY.test()},
         base={"tests/test_red.py": _RED}),
    Case("odd/flaky-test", "a flaky test", True, {MONEY.path: MONEY.fixed}, {MONEY.test_path: MONEY.test()},
         base={"tests/test_luck.py": _LUCK}, reruns=20),
    Case("odd/crlf", "line ends of another system", True, {SLUGS.path: SLUGS.fixed.replace("\n", "\r\n")},
         script=SLUGS.script, base={SLUGS.path: SLUGS.wrong.replace("\n", "\r\n")}),
    Case("odd/no-last-line-end", "no line end", True, {PAGES.path: PAGES.fixed.rstrip("\n")}, script=PAGES.script),
    Case("odd/second-file", "two files", True,
         by="risk:unneeded", fix=_HELPED, script=WAITS.script),
    Case("odd/rename", "a file with another name", True,
         by="risk:knows_the_case", fix={MONEY.path: None, "src/shop/carts.py": MONEY.fixed, "src/shop/__init__.py": '"""A shop."""\n\nfrom shop import carts as money\n'},
         script=MONEY.script),
    Case("odd/unicode", "letters of other scripts", True,
         {NAMES.path: NAMES.fixed.replace('"""Both names in one."""', '"""两个名字合在一起, naïve Δ, é 👩\u200d💻."""')},
         script=NAMES.script),
    Case("odd/what-was-there", "an old line that looks like a secret", True, {MONEY.path: "PASSWORD = 'hunter2hunter2'\n" + MONEY.fixed},
         script=MONEY.script, base={MONEY.path: "PASSWORD = 'hunter2hunter2'\n" + MONEY.wrong}),
    Case("odd/subprocess-was-there", "a program that it ran before", True, {MONEY.path: "import subprocess\n\n" + MONEY.fixed},
         script=MONEY.script, base={MONEY.path: "import subprocess\n\n" + MONEY.wrong}),
    Case("odd/run-bit-stays", "an executable that stays one", True, {}, hand=_run_bit,
         script='test "$(src/tool.sh)" = "tool 2"', base={"src/tool.sh": "#!/bin/sh\necho tool\n"},
         before=lambda root: (root / "src/tool.sh").chmod(0o755)),
    Case("odd/long", "a long fix", True,
         by="risk:unneeded", fix={MONEY.path: MONEY.fixed + "".join(f"\n\ndef unused_{n}(cents):\n    return cents\n" for n in range(30))},
         script=MONEY.script),
    Case("odd/old-test-holds-the-bug", "a test that asserts the bug", True,
         by="verify", fix={MONEY.path: MONEY.fixed}, script=MONEY.script,
         base={"tests/test_shop.py": str(BASE["tests/test_shop.py"]).replace("\"count\": 1}, {\"price\": 50}]), 300)", "\"count\": 2}, {\"price\": 50}]), 300)")}),
    Case("odd/dependency", "a manifest that may be asked for", True,
         by="risk:asked", fix={"pyproject.toml": '[project]\nname = "shop"\nversion = "2"\n', MONEY.path: MONEY.fixed}, script=MONEY.script,
         ask='["pyproject.toml"]'),
    Case("odd/environment", "a fix that must ask where it runs", True,
         by="risk:asks_where", fix={MONEY.path: "import os\n\n" + MONEY.fixed.replace('"count", 1)', '"count", int(os.environ.get("COUNT", "1")))')},
         script=MONEY.script),
    GREET,
    replace(GREET, name="shell/greeting", script='test "$(sh src/greet.sh)" = "Hello, you"',
            fix={"src/greet.sh": 'echo "Hello, ${1:-you}"\n'}),
)  # fmt: skip
GOOD: tuple[Case, ...] = (*(case for bug in BUGS for case in _ways(bug)), *ODD)
