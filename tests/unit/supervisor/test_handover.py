"""Which order comes next in an overlap switch, from every standing of both sides. Real processes: tests/faults."""

import pytest

from regrow.supervisor.handover import Overlap, parks


class Loop:
    """Keeps the last call that is due, until somebody makes it."""

    def __init__(self):
        self.due = None

    def after(self, seconds, call):
        self.due = call
        return self

    def cancel(self):
        self.due = None


class Copy:
    """An instance that writes down its orders."""

    def __init__(self, token, state, said, standby, orders):
        self.token, self.state, self.said, self.orders = token, state, said, orders
        self.spec = {"handover": "overlap", "standby": standby, "start_timeout_s": 5.0}
        self.alive = True

    @property
    def speaks(self):
        return self.said is not None

    def pause(self):
        self.orders.append(f"{self.token} hangup")

    def resume(self):
        self.orders.append(f"{self.token} connect" if self.speaks else f"{self.token} nothing")

    def abort(self, cause):
        self.orders.append(f"{self.token} ended: {cause}")


class Owner:
    """A switch from `old` to `new` whose record is on disk."""

    def __init__(self, standby, old="connected", new="armed"):
        self.loop, self.orders = Loop(), []
        self.old = Copy("old", "stopping" if standby == "none" else "standby", old, standby, self.orders)
        self.new = Copy("new", "active", new, standby, self.orders)
        self.instances = {"old": self.old, "new": self.new}
        self.record = {"trial": {"token": "new", "old": "old", "switched": None}}
        self.overlap = Overlap(self)

    def trial_instance(self):
        return self.instances.get("new") if self.record["trial"] else None

    def switched(self, new, old, **fields):
        self.record["trial"]["switched"] = 1.0
        self.orders.append("switched")

    def rule(self, bad, reason, cause, noticed):
        self.record["trial"] = None
        self.orders.append(f"rule: {cause}")

    def say(self, copy, word):
        copy.said = word
        self.overlap.heard(copy)


@pytest.mark.parametrize("word", ["draining", "drained"])
def test_parked_the_new_one_waits_for_the_old_ones_word(word):
    owner = Owner("paused")
    owner.overlap.begin()
    assert owner.orders == ["old hangup"]
    owner.say(owner.old, word)
    owner.say(owner.new, "connected")
    assert owner.orders == ["old hangup", "new connect", "switched"]
    assert not owner.overlap.under_way()
    owner.say(owner.old, "drained")
    owner.say(owner.new, "connected")
    assert owner.orders[3:] == []


def test_running_the_old_one_stays_connected():
    owner = Owner("running")
    owner.overlap.begin()
    assert owner.orders == ["new connect"]


def test_one_that_is_retired_has_been_told_already_and_is_waited_for():
    owner = Owner("none")
    owner.overlap.begin()
    assert owner.orders == []
    owner.say(owner.old, "draining")
    assert owner.orders == ["new connect"]


def test_the_old_ones_death_is_as_good_as_its_word():
    owner = Owner("paused")
    owner.overlap.begin()
    del owner.instances["old"]
    owner.overlap.go_on()
    assert owner.orders == ["old hangup", "new connect"]


def test_silence_of_the_old_one_has_an_end():
    owner = Owner("paused")
    owner.overlap.begin()
    owner.loop.due()
    assert owner.orders == ["old hangup", "new connect"]


def test_silence_of_the_new_one_means_the_rule():
    owner = Owner("running")
    owner.overlap.begin()
    owner.loop.due()
    assert owner.orders == ["new connect", "rule: not connected in 5 s"]


def test_whoever_does_not_speak_is_connected_already_and_told_nothing():
    owner = Owner("running", old=None, new=None)
    owner.overlap.begin()
    assert owner.orders == ["new nothing", "switched"]
    owner.say(owner.new, "armed")
    assert owner.orders[2:] == ["new connect"], "it was armed all the time, and late to say so"


@pytest.mark.parametrize("old", ["connected", "draining", "drained"])
@pytest.mark.parametrize("new", ["armed", "connected"])
def test_begun_again_by_the_next_supervisor_it_comes_to_the_same_end(old, new):
    """What was said while nobody listened is said again, because the order is given again."""
    owner = Owner("paused", old, new)
    owner.overlap.begin()
    if old == "connected":
        assert owner.orders == ["old hangup"]
        owner.say(owner.old, "draining")
    owner.say(owner.new, "connected")
    assert owner.orders[-1] == "switched"
    assert owner.orders.count("new connect") == 1


def test_on_the_way_back_the_parked_one_is_waited_for_and_ended_if_it_does_not_come():
    owner = Owner("paused")
    owner.record["trial"] = None
    owner.old.state = "active"
    assert not owner.overlap.back(owner.old), "it never hung up"
    owner.old.said = "drained"
    assert owner.overlap.back(owner.old)
    owner.loop.due()
    assert owner.orders == ["old ended: not connected again in 5 s"]
    owner.old.said = "connected"
    assert owner.loop.due() is None
    assert len(owner.orders) == 1


@pytest.mark.parametrize(
    ("handover", "standby", "parked"),
    [
        ("overlap", "paused", True),
        ("overlap", "running", False),
        ("overlap", "none", False),
        ("socket", "paused", True),
        ("socket", "running", False),
        ("exclusive", "paused", False),
    ],
)
def test_who_is_parked(handover, standby, parked):
    assert parks({"handover": handover, "standby": standby}) is parked
