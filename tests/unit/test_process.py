"""Running programs: real ones, with their children, their noise and their deadlines."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from regrow import process
from regrow.errors import ProcessError, ProcessFailed, ProcessTimeout

HANG_WITH_CHILD = "echo $$; sleep 1000 & echo $!; wait"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


async def ended(pid: int) -> bool:
    """Wait until a process that nobody here is the parent of is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    gone = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, gone.set)
    try:
        async with asyncio.timeout(20):
            await gone.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
    return True


class Lines:
    """The lines of a command, and a way to wait for them."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._came = asyncio.Event()

    def __call__(self, line: str) -> None:
        self.lines.append(line)
        self._came.set()

    async def until(self, true: Callable[[list[str]], bool]) -> None:
        async with asyncio.timeout(20):
            while not true(self.lines):
                self._came.clear()
                await self._came.wait()


async def test_output_and_code_are_kept(tmp_path: Path) -> None:
    seen: list[str] = []
    done = await process.run(
        ["sh", "-c", "pwd; echo to stderr >&2; echo $WORD; printf 'no end\\r'; exit 3"],
        timeout_s=30,
        cwd=tmp_path,
        env={"WORD": "given", "PATH": os.environ["PATH"]},
        on_line=seen.append,
    )
    assert done.code == 3
    assert seen[:3] == [str(tmp_path), "to stderr", "given"]
    assert done.output.startswith(f"{tmp_path}\nto stderr\ngiven\nno end")
    with pytest.raises(ProcessFailed, match="cannot try: sh ended with exit code 3: no end") as caught:
        done.check("try")
    assert (caught.value.code, caught.value.kind) == (3, "process_failed")


async def test_a_deadline_ends_the_whole_group() -> None:
    lines = Lines()
    with pytest.raises(ProcessTimeout, match=r"still running after 1 s") as caught:
        await process.run(["sh", "-c", HANG_WITH_CHILD], timeout_s=1, on_line=lines)
    await lines.until(lambda seen: len(seen) == 2)
    assert all([await ended(int(pid)) for pid in lines.lines])
    assert caught.value.log.split() == lines.lines


async def test_a_deadline_also_ends_what_outlives_its_parent() -> None:
    # The program is gone at once, and what it left behind holds the pipe.
    lines = Lines()
    with pytest.raises(ProcessTimeout):
        await process.run(["sh", "-c", "sleep 1000 & echo $!"], timeout_s=1, on_line=lines)
    assert await ended(int(lines.lines[0]))


async def test_cancelling_ends_the_whole_group() -> None:
    lines = Lines()
    task = asyncio.create_task(process.run(["sh", "-c", HANG_WITH_CHILD], timeout_s=100, on_line=lines))
    await lines.until(lambda seen: len(seen) == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert all([await ended(int(pid)) for pid in lines.lines])


async def test_a_program_that_asks_to_be_spared_is_not() -> None:
    lines = Lines()
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('on', flush=True); time.sleep(99)"
    with pytest.raises(ProcessTimeout):
        await process.run(python(code), timeout_s=1, on_line=lines)


async def test_a_missing_program_has_its_own_kind(tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="install it or correct the setting") as caught:
        await process.run([str(tmp_path / "nothing")], timeout_s=5)
    assert caught.value.kind == "missing_command"
    (tmp_path / "plain").write_text("not a program")
    with pytest.raises(ProcessError) as caught:
        await process.run([str(tmp_path / "plain")], timeout_s=5)
    assert caught.value.kind == "process"


async def test_ten_megabytes_on_one_line() -> None:
    sizes: list[int] = []
    code = "import sys; sys.stdout.write('x' * 10_000_000 + '\\nlast')"
    done = await process.run(python(code), timeout_s=60, on_line=lambda line: sizes.append(len(line)), keep_bytes=1000)
    assert sum(sizes) == 10_000_004
    assert max(sizes) < 200_000  # never held as one
    assert sizes[-1] == 4
    assert len(done.output) < 1100


async def test_the_middle_of_long_output_is_left_out() -> None:
    code = "print('first'); print('m' * 5000); print('last', end='')"
    done = await process.run(python(code), timeout_s=30, keep_bytes=100)
    head, said, tail = done.output.split("\n[", 1)[0], *done.output.split("\n[... ", 1)[1].split(" ...]\n")
    assert (head[:6], tail[-5:], said) == ("first\n", "\nlast", "4911 bytes left out")
    assert (len(head), len(tail)) == (50, 50)


async def test_output_that_just_fits_is_whole() -> None:
    done = await process.run(python("print('x' * 99)"), timeout_s=30, keep_bytes=100)
    assert done.output == "x" * 99 + "\n"


async def test_what_is_no_text_is_shown_as_far_as_it_is() -> None:
    seen: list[str] = []
    code = "import sys; sys.stdout.buffer.write('七点'.encode() + b'\\xff\\xfe\\nplain\\n')"
    done = await process.run(python(code), timeout_s=30, on_line=seen.append)
    assert seen == ["七点\ufffd\ufffd", "plain"]
    assert done.output == "七点\ufffd\ufffd\nplain\n"


async def test_a_letter_cut_by_a_read_is_whole_in_the_line() -> None:
    seen: list[str] = []
    code = (
        "import sys, time; w = sys.stdout.buffer; b = '七'.encode();"
        "w.write(b[:1]); w.flush(); sys.stdin.readline(); w.write(b[1:] + b'\\n'); w.flush()"
    )
    await process.run(python(code), timeout_s=30, stdin=b"go\n", on_line=seen.append)
    assert seen == ["七"]


async def test_stdin_is_fed_and_closed() -> None:
    big = b"line\n" * 200_000
    done = await process.run(["wc", "-c"], timeout_s=30, stdin=big)
    assert done.output.strip() == str(len(big))
    assert (await process.run(["cat"], timeout_s=30)).output == ""  # without one it reads the end at once


async def test_a_program_that_does_not_read_its_stdin() -> None:
    done = await process.run(["sh", "-c", "exec 0<&-; echo bye"], timeout_s=30, stdin=b"x" * 5_000_000)
    assert (done.code, done.output) == (0, "bye\n")


async def test_a_signal_is_named() -> None:
    done = await process.run(["sh", "-c", "kill -KILL $$"], timeout_s=30)
    assert done.code == -signal.SIGKILL
    assert process.exit_words(done.code) == "signal SIGKILL"
    assert process.exit_words(-99) == "signal 99"
    assert process.exit_words(2) == "exit code 2"


async def test_a_sink_that_breaks_ends_the_program() -> None:
    pids: list[int] = []

    def sink(line: str) -> None:
        pids.append(int(line))
        raise ValueError("sink")

    with pytest.raises(ValueError, match="sink"):
        await process.run(["sh", "-c", "echo $$; exec sleep 1000"], timeout_s=30, on_line=sink)
    assert await ended(pids[0])


async def test_being_nice_and_passing_descriptors() -> None:
    read_end, write_end = os.pipe()
    try:
        code = f"import os; os.write({write_end}, b'through'); print(os.nice(0) - {os.nice(0)})"
        done = await process.run(python(code), timeout_s=30, nice=5, pass_fds=(write_end,))
        assert (done.output, os.read(read_end, 100)) == ("5\n", b"through")
    finally:
        os.close(read_end)
        os.close(write_end)


def test_the_age_of_a_process_grows_from_its_own_start() -> None:
    first = process.process_age_s()
    assert 0 < first <= process.process_age_s()


async def test_a_program_is_talked_to_and_its_complaints_are_kept() -> None:
    code = "import sys\nfor line in sys.stdin: print(line.strip()[::-1], flush=True)\n"
    code += "sys.stderr.buffer.write(b'bye \\xff')"
    async with process.talk(python(code)) as talk:
        assert talk.stdin is not None and talk.stdout is not None
        for word in (b"abc\n", b"x" * 1_000_000 + b"yz\n"):  # far longer than asyncio's own limit of a line
            talk.stdin.write(word)
            assert (await talk.stdout.readline()).strip() == word.strip()[::-1]
        assert talk.code is None
        talk.stdin.close()
        assert await talk.ended() == 0
    assert talk.complaints == "bye \ufffd"


async def test_a_program_that_is_talked_to_ends_with_its_children_when_the_block_is_left() -> None:
    pids: list[int] = []
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5), process.talk(["sh", "-c", HANG_WITH_CHILD]) as talk:
            assert talk.stdout is not None
            pids += [int(await talk.stdout.readline()) for _ in range(2)]
            await talk.ended()
    assert talk.code == -signal.SIGKILL
    assert [await ended(pid) for pid in pids] == [True, True]


async def test_a_program_that_is_talked_to_gets_descriptors_of_the_caller() -> None:
    reading, writing = os.pipe()
    try:
        async with process.talk(["echo", "there"], stdin=asyncio.subprocess.DEVNULL, stdout=writing) as talk:
            os.close(writing)
            assert (talk.stdin, talk.stdout, await talk.ended()) == (None, None, 0)
        assert os.read(reading, 100) == b"there\n"
    finally:
        os.close(reading)
    with pytest.raises(ProcessError) as caught:
        async with process.talk(["/no/such/program"]):
            pass
    assert caught.value.kind == "missing_command"
