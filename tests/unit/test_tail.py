"""Following a log whose head is taken away meanwhile."""

from regrow import tail


def test_a_follower_gives_whole_lines_once(tmp_path):
    path = tmp_path / "log"
    path.write_text("old\n")
    follower = tail.Follower(path, from_end=True)
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert follower.read() == "one\n"
        file.write("o\n")
        file.flush()
        assert follower.read() == "two\n"
        assert follower.read() == ""


def test_it_finds_its_place_after_the_head_was_taken_away(tmp_path):
    path = tmp_path / "log"
    lines = [f"line {number}\n" for number in range(2000)]
    path.write_text("".join(lines[:1000]))
    follower = tail.Follower(path, from_end=True)
    path.write_text("".join(lines[900:1100]))  # shorter than before
    assert follower.read() == "".join(lines[1000:1100])
    path.write_text("".join(lines[1050:2000]))  # longer than before: the length alone would say nothing
    assert follower.read() == "".join(lines[1100:2000])
    path.write_text("other\n")
    assert follower.read() == "other\n"


def test_the_end_is_read_without_the_hole_before_it(tmp_path):
    path = tmp_path / "log"
    with path.open("wb") as file:
        file.seek(100_000)
        file.write(b"last\n")
    assert tail.end_of(path, 10_000) == "last\n"
    assert tail.end_of(tmp_path / "none", 10) == ""
