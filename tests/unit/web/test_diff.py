from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from regrow.web import diff

TWO_FILES = """diff --git a/src/a.py b/src/a.py
index 1b2f3aa..9d0c4be 100644
--- a/src/a.py
+++ b/src/a.py
@@ -1,3 +1,3 @@
 # comment
--- a line that begins with two dashes
+def f(): return "text"
 x = 1
diff --git a/gone.txt b/gone.txt
deleted file mode 100644
--- a/gone.txt
+++ /dev/null
@@ -1 +0,0 @@
-last
\\ No newline at end of file
"""


def shown(line: diff.Line) -> str:
    return "".join(piece.text for piece in line.pieces)


def test_files_lines_and_numbers() -> None:
    first, second = diff.read(TWO_FILES)
    assert (first.path, first.added, first.removed) == ("src/a.py", 1, 1)
    assert (second.path, second.added, second.removed) == ("gone.txt", 0, 1)
    numbered = [(line.kind, line.old, line.new) for line in first.lines if line.kind not in {"head", "hunk"}]
    assert numbered == [("same", 1, 1), ("removed", 2, None), ("added", None, 2), ("same", 3, 3)]
    assert second.lines[-1].kind == "head"


def test_code_has_the_colours_of_its_language() -> None:
    first, _ = diff.read(TWO_FILES)
    added = next(line for line in first.lines if line.kind == "added")
    assert {(piece.text, piece.colour) for piece in added.pieces} >= {
        ("def", "keyword"),
        ("f", "name"),
        ("text", "string"),
    }


def test_plain_patches_without_git_headers_are_files_too() -> None:
    patch = "".join(f"--- a/{name}\n+++ b/{name}\n@@ -1 +1 @@\n-x\n+y\n" for name in ("one", "two"))
    assert [(file.path, file.added) for file in diff.read(patch)] == [("one", 1), ("two", 1)]


def test_characters_that_hide_or_turn_text_are_shown_as_their_code() -> None:
    (file,) = diff.read("--- a/x.py\n+++ b/x.py\n@@ -1 +1 @@\n-a\n+is_admin = '\u202eeslaF'  # \u200b\x1b\u3164\t语\n")
    added = file.lines[-1]
    assert [piece.text for piece in added.pieces if piece.colour == "odd"] == ["U+202E", "U+200B", "U+001B", "U+3164"]
    assert shown(added).endswith("\t语")
    assert file.odd


def test_a_long_change_is_shown_whole_without_colours() -> None:
    body = "".join(f"+x = {number}\n" for number in range(diff.COLOURED_CHARS // 6))
    count = body.count("\n")
    (file,) = diff.read(f"--- a/x.py\n+++ b/x.py\n@@ -0,0 +1,{count} @@\n{body}")
    assert file.added == count
    assert {piece.colour for line in file.lines for piece in line.pieces} == {""}


_LINES = st.one_of(
    st.sampled_from(TWO_FILES.splitlines()),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.builds("{}{}".format, st.sampled_from(list("+- \\")), st.text("ab'\"#(:\r\t", max_size=8)),
)


@given(st.lists(_LINES, max_size=30))
def test_no_character_of_a_change_is_lost(lines: list[str]) -> None:
    text = "\n".join(lines)
    files = diff.read(text)
    wanted = text.split("\n")
    if wanted[-1] == "":
        wanted.pop()
    every = [line for file in files for line in file.lines]
    assert [line.text for line in every] == wanted
    for line in every:
        bare = line.text if line.kind in {"hunk", "head"} else line.text[1:]
        odd = "".join(chr(int(piece.text[2:], 16)) if piece.colour == "odd" else piece.text for piece in line.pieces)
        assert odd == bare
