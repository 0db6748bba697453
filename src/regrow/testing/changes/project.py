"""A small service with a bug in each of its modules, and what mends each: the ground of all cases.

The tests that it has pass: as in life, they miss the bugs and hold what was right.
"""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import dedent


def code(text: str) -> str:
    """A text of a program, as it is indented here."""
    return dedent(text).lstrip("\n")


@dataclass(frozen=True)
class Bug:
    """A bug and how it shows.

    Attributes:
        name: of the module, `src/shop/NAME.py`.
        told: a person's words.
        wrong: the module.
        old, new: what the plain fix replaces, by what.
        other: a further good module, written another way.
        ask: a Python expression over the module, imported under its name.
        answer: what it should be.
        also: more pairs of such; a true fix gives these too.
    """

    name: str
    told: str
    wrong: str
    old: str
    new: str
    other: str
    ask: str
    answer: str
    also: tuple[tuple[str, str], ...] = ()

    @property
    def path(self) -> str:
        """The module's file."""
        return f"src/shop/{self.name}.py"

    @property
    def fixed(self) -> str:
        """The module after the plain fix."""
        assert self.wrong.count(self.old) == 1, f"{self.old!r} is not once in {self.name}"
        return self.wrong.replace(self.old, self.new)

    @property
    def script(self) -> str:
        """The reproduction that a person could give."""
        return f"PYTHONPATH=src python3 -c 'from shop import {self.name}; assert {self.ask} == {self.answer}'"

    def test(self, *more: tuple[str, str], name: str = "report") -> str:
        """A reproducing test."""
        checks = "".join(
            f"        self.assertEqual({ask}, {answer})\n" for ask, answer in ((self.ask, self.answer), *more)
        )
        return (
            f"import sys\nimport unittest\n\nsys.path.insert(0, 'src')\nfrom shop import {self.name}\n\n\n"
            f"class {name.title()}Test(unittest.TestCase):\n    def test_{name}(self):\n{checks}"
        )

    @property
    def test_path(self) -> str:
        """Where it is."""
        return f"tests/test_{self.name}_report.py"


def bug(name: str, told: str, wrong: str, *, old: str, new: str, other: str, ask: str, answer: str,
        also: tuple[tuple[str, str], ...]) -> Bug:  # fmt: skip
    return Bug(name, told, code(wrong), old, new, code(other), ask, answer, also)


BUGS = (
    bug(
        "money",
        "the total of a cart ignores how many of an item there are",
        '''
        """What a cart costs."""


        def total(items):
            """Cents of all items, each a dict with price and count."""
            return sum(item["price"] for item in items)


        def shown(cents):
            """Cents as a price."""
            return f"{cents // 100}.{cents % 100:02d}"
        ''',
        old='item["price"] for',
        new='item["price"] * item.get("count", 1) for',
        other='''
        """What a cart costs."""


        def total(items):
            """Cents of all items, each a dict with price and count."""
            cents = 0
            for item in items:
                cents += item["price"] * item.get("count", 1)
            return cents


        def shown(cents):
            """Cents as a price."""
            return f"{cents // 100}.{cents % 100:02d}"
        ''',
        ask='money.total([{"price": 250, "count": 3}])',
        answer="750",
        also=(('money.total([{"price": 5, "count": 2}, {"price": 1}])', "11"),),
    ),
    bug(
        "slugs",
        "a title with two blanks in a row gets an address with two dashes",
        '''
        """Addresses of pages."""


        def slug(title):
            """The title as it stands in an address."""
            return title.strip().lower().replace(" ", "-")
        ''',
        old='title.strip().lower().replace(" ", "-")',
        new='"-".join(title.lower().split())',
        other='''
        """Addresses of pages."""


        def slug(title):
            """The title as it stands in an address."""
            words = [word for word in title.lower().split(" ") if word]
            return "-".join(words)
        ''',
        ask='slugs.slug("Big  Red Hat")',
        answer='"big-red-hat"',
        also=(('slugs.slug("  a   b c ")', '"a-b-c"'),),
    ),
    bug(
        "spans",
        "a span of 1h30m is read as 1 hour and 30 seconds",
        '''
        """Spans of time, as people write them."""

        UNITS = {"h": 3600, "m": 1, "s": 1}


        def seconds(text):
            """The seconds of a span like 2h5m."""
            found, digits = 0, ""
            for letter in text:
                if letter.isdigit():
                    digits += letter
                else:
                    found += int(digits) * UNITS[letter]
                    digits = ""
            return found
        ''',
        old='"m": 1,',
        new='"m": 60,',
        other='''
        """Spans of time, as people write them."""

        import re

        UNITS = {"h": 60 * 60, "m": 60, "s": 1}


        def seconds(text):
            """The seconds of a span like 2h5m."""
            return sum(int(number) * UNITS[unit] for number, unit in re.findall(r"([0-9]+)([hms])", text))
        ''',
        ask='spans.seconds("1h30m")',
        answer="5400",
        also=(('spans.seconds("7m")', "420"), ('spans.seconds("2h3m4s")', "7384")),
    ),
    bug(
        "pages",
        "the last page of a list is never shown",
        '''
        """Lists in pages."""


        def count(length, size):
            """How many pages there are."""
            return length // size


        def page(items, number, size):
            """The items of a page, from 1."""
            return items[(number - 1) * size : number * size]
        ''',
        old="length // size",
        new="-(-length // size)",
        other='''
        """Lists in pages."""

        import math


        def count(length, size):
            """How many pages there are."""
            return math.ceil(length / size)


        def page(items, number, size):
            """The items of a page, from 1."""
            return items[(number - 1) * size : number * size]
        ''',
        ask="pages.count(21, 10)",
        answer="3",
        also=(("pages.count(20, 10)", "2"), ("pages.count(1, 5)", "1"), ("pages.count(0, 5)", "0")),
    ),
    bug(
        "zones",
        "reminders come at the wrong hour east of Greenwich",
        '''
        """Hours elsewhere."""


        def local(hour, offset):
            """The hour there, when it is `hour` in Greenwich."""
            return (hour - offset) % 24
        ''',
        old="hour - offset",
        new="hour + offset",
        other='''
        """Hours elsewhere."""


        def local(hour, offset):
            """The hour there, when it is `hour` in Greenwich."""
            there = hour + offset
            return there % 24
        ''',
        ask="zones.local(23, 8)",
        answer="7",
        also=(("zones.local(3, -5)", "22"), ("zones.local(0, 1)", "1")),
    ),
    bug(
        "names",
        "somebody without a family name cannot log in: AttributeError",
        '''
        """What people are called."""


        def full(first, last):
            """Both names in one."""
            return first.title() + " " + last.title()
        ''',
        old='return first.title() + " " + last.title()',
        new='return " ".join(name.title() for name in (first, last) if name)',
        other='''
        """What people are called."""


        def full(first, last):
            """Both names in one."""
            if not last:
                return first.title()
            if not first:
                return last.title()
            return f"{first.title()} {last.title()}"
        ''',
        ask='names.full("ada", None)',
        answer='"Ada"',
        also=(('names.full(None, "king")', '"King"'), ('names.full("ada", "")', '"Ada"')),
    ),
    bug(
        "romans",
        "chapter IV is sorted behind chapter V",
        '''
        """Roman numbers."""

        VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


        def number(text):
            """The value of a Roman number."""
            found = 0
            for letter in text:
                found += VALUES[letter]
            return found
        ''',
        old="""    for letter in text:
        found += VALUES[letter]
""",
        new="""    for letter, after in zip(text, text[1:] + "I"):
        found += VALUES[letter] if VALUES[letter] >= VALUES[after] else -VALUES[letter]
""",
        other='''
        """Roman numbers."""

        VALUES = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


        def number(text):
            """The value of a Roman number."""
            found = most = 0
            for letter in reversed(text):
                value = VALUES[letter]
                found += value if value >= most else -value
                most = max(most, value)
            return found
        ''',
        ask='romans.number("IV")',
        answer="4",
        also=(('romans.number("XIX")', "19"), ('romans.number("XLIV")', "44")),
    ),
    bug(
        "ranges",
        "two bookings that touch are shown as two",
        '''
        """Ranges of days."""


        def merged(ranges):
            """The ranges with those that overlap made one."""
            found = []
            for start, end in sorted(ranges):
                if found and start < found[-1][1]:
                    found[-1] = (found[-1][0], max(end, found[-1][1]))
                else:
                    found.append((start, end))
            return found
        ''',
        old="start < found",
        new="start <= found",
        other='''
        """Ranges of days."""


        def merged(ranges):
            """The ranges with those that overlap made one."""
            found = []
            for start, end in sorted(ranges):
                if not found or start > found[-1][1]:
                    found.append((start, end))
                else:
                    found[-1] = (found[-1][0], max(end, found[-1][1]))
            return found
        ''',
        ask="ranges.merged([(1, 3), (3, 6)])",
        answer="[(1, 6)]",
        also=(("ranges.merged([(1, 2), (4, 5)])", "[(1, 2), (4, 5)]"),),
    ),
    bug(
        "waits",
        "after a long outage it waits for hours",
        '''
        """How long to wait before the next try."""

        MOST = 60


        def wait(tries):
            """Seconds before the next try."""
            return 2**tries
        ''',
        old="return 2**tries",
        new="return min(2**tries, MOST)",
        other='''
        """How long to wait before the next try."""

        MOST = 60


        def wait(tries):
            """Seconds before the next try."""
            seconds = 2**tries
            return seconds if seconds < MOST else MOST
        ''',
        ask="waits.wait(12)",
        answer="60",
        also=(("waits.wait(6)", "60"), ("waits.wait(5)", "32")),
    ),
    bug(
        "recent",
        "what was just looked at is forgotten first",
        '''
        """What was looked at last."""


        class Recent:
            """The last few things."""

            def __init__(self, most):
                self.most = most
                self.things = []

            def add(self, thing):
                """Look at a thing."""
                if thing not in self.things:
                    self.things.append(thing)
                self.things = self.things[-self.most :]
                return self
        ''',
        old="""        if thing not in self.things:
            self.things.append(thing)
""",
        new="""        if thing in self.things:
            self.things.remove(thing)
        self.things.append(thing)
""",
        other='''
        """What was looked at last."""


        class Recent:
            """The last few things."""

            def __init__(self, most):
                self.most = most
                self.things = []

            def add(self, thing):
                """Look at a thing."""
                others = [other for other in self.things if other != thing]
                self.things = [*others, thing][-self.most :]
                return self
        ''',
        ask='recent.Recent(2).add("a").add("b").add("a").add("c").things',
        answer='["a", "c"]',
        also=(('recent.Recent(1).add("a").add("b").things', '["b"]'),),
    ),
    bug(
        "fields",
        "a comma in quotes splits the line",
        '''
        """Lines of a table."""


        def split(line):
            """The fields of a line."""
            return [field.strip('"') for field in line.split(",")]
        ''',
        old="""    return [field.strip('"') for field in line.split(",")]
""",
        new="""    found, quoted = [""], False
    for letter in line:
        if letter == '"':
            quoted = not quoted
        elif letter == "," and not quoted:
            found.append("")
        else:
            found[-1] += letter
    return found
""",
        other='''
        """Lines of a table."""

        import csv


        def split(line):
            """The fields of a line."""
            return next(csv.reader([line]), [""])
        ''',
        ask="""fields.split("a,\\"b,c\\",d")""",
        answer='["a", "b,c", "d"]',
        also=(("""fields.split("x,y")""", '["x", "y"]'),),
    ),
    bug(
        "shares",
        "a bill shared by three does not add up",
        '''
        """Bills that are shared."""


        def shares(cents, people):
            """What each pays."""
            return [cents // people] * people
        ''',
        old="return [cents // people] * people",
        new="return [cents // people + (number < cents % people) for number in range(people)]",
        other='''
        """Bills that are shared."""


        def shares(cents, people):
            """What each pays."""
            each, rest = divmod(cents, people)
            return [each + 1] * rest + [each] * (people - rest)
        ''',
        ask="shares.shares(100, 3)",
        answer="[34, 33, 33]",
        also=(("shares.shares(90, 3)", "[30, 30, 30]"), ("sum(shares.shares(101, 7))", "101")),
    ),
)

BY_NAME = {each.name: each for each in BUGS}

_TESTS = code(
    """
    import sys
    import unittest

    sys.path.insert(0, "src")
    from shop import access, fields, money, names, pages, ranges, recent, romans, shares, slugs, spans, waits, zones


    class ShopTest(unittest.TestCase):
        def test_money(self):
            self.assertEqual(money.total([{"price": 250, "count": 1}, {"price": 50}]), 300)
            self.assertEqual(money.shown(1205), "12.05")

        def test_slugs(self):
            self.assertEqual(slugs.slug(" Red Hat "), "red-hat")

        def test_spans(self):
            self.assertEqual(spans.seconds("2h"), 7200)
            self.assertEqual(spans.seconds("5s"), 5)

        def test_pages(self):
            self.assertEqual(pages.count(20, 10), 2)
            self.assertEqual(pages.page([1, 2, 3], 2, 2), [3])

        def test_zones(self):
            self.assertEqual(zones.local(12, 0), 12)

        def test_names(self):
            self.assertEqual(names.full("ada", "king"), "Ada King")

        def test_romans(self):
            self.assertEqual(romans.number("XVI"), 16)

        def test_ranges(self):
            self.assertEqual(ranges.merged([(1, 4), (2, 6), (8, 9)]), [(1, 6), (8, 9)])

        def test_waits(self):
            self.assertEqual([waits.wait(tries) for tries in range(4)], [1, 2, 4, 8])

        def test_recent(self):
            self.assertEqual(recent.Recent(2).add("a").add("b").add("c").things, ["b", "c"])

        def test_fields(self):
            self.assertEqual(fields.split("a,b"), ["a", "b"])

        def test_shares(self):
            self.assertEqual(shares.shares(90, 3), [30, 30, 30])

        def test_access(self):
            self.assertTrue(access.may("ada", "read"))


    if __name__ == "__main__":
        unittest.main()
    """
)
_ACCESS = code(
    '''
    """Who may do what."""

    OWNERS = {"ada"}


    def may(person, what):
        """Whether somebody may do something."""
        if what == "delete" and person not in OWNERS:
            return False
        return person != ""
    '''
)
_BUILD = code(
    """
    import pathlib
    import shutil
    import sys

    out = pathlib.Path(sys.argv[1])
    for source in sorted(pathlib.Path("src").rglob("*.py")):
        compile(source.read_text(), str(source), "exec")
    shutil.copytree("src", out, dirs_exist_ok=True)
    """
)
BASE: dict[str, str | bytes | None] = {
    **{each.path: each.wrong for each in BUGS},
    "src/shop/__init__.py": '"""A shop."""\n',
    "src/shop/access.py": _ACCESS,
    "tests/test_shop.py": _TESTS,
    "build.py": _BUILD,
    "run_tests.py": "import unittest\n\nunittest.main(module=None, argv=['tests', 'discover', '-v', '-s', 'tests'])\n",
    "pyproject.toml": '[project]\nname = "shop"\nversion = "1"\n',
    "docs/page.md": "# Shop\n",
    ".gitignore": "__pycache__/\n*.log\n",
}

SHELL: dict[str, str | bytes | None] = {
    "src/greet.sh": 'echo "Hello, $1"\n',
    "src/count.sh": "echo $(($1 + $2 + 1))\n",
    "test.sh": 'set -eu\ntest "$(sh src/greet.sh Ada)" = "Hello, Ada"\necho all is well\n',
}
