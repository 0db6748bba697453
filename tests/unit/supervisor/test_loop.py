"""Timers in order, cancelled ones silent, a faulty callback contained, no wake-up without a reason."""

import os

from regrow.supervisor.loop import Loop


def test_timers_run_in_order_and_cancelled_ones_do_not():
    loop, ran = Loop(), []
    loop.after(0.02, lambda: ran.append("late"))
    loop.after(0.0, lambda: ran.append("soon"))
    never = loop.after(0.01, lambda: ran.append("never"))
    loop.after(0.0, never.cancel)
    loop.after(0.03, loop.stop)
    loop.run()
    assert ran == ["soon", "late"]


def test_a_fault_in_a_callback_does_not_end_the_loop(capsys):
    loop, ran = Loop(), []
    loop.after(0, lambda: 1 // 0)
    loop.after(0.001, lambda: ran.append("on"))
    loop.after(0.002, loop.stop)
    loop.run()
    assert ran == ["on"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_sleeps_for_ever_when_no_timer_is_due():
    loop = Loop()
    assert loop._wait() is None
    timer = loop.after(60, loop.stop)
    assert loop._wait() > 59
    timer.cancel()
    assert loop._wait() is None


def test_a_watch_ended_in_the_same_round_is_not_called():
    loop, ran = Loop(), []
    ends = [os.pipe() for _ in range(2)]

    def first_wins(own, other):
        ran.append(own)
        loop.unwatch(ends[other][0])
        os.read(ends[own][0], 1)

    for own in (0, 1):
        os.write(ends[own][1], b"x")
        loop.watch(ends[own][0], lambda own=own: first_wins(own, 1 - own))
    loop.after(0.01, loop.stop)
    loop.run()
    assert len(ran) == 1
    for pair in ends:
        for fd in pair:
            os.close(fd)
