"""The order of an overlap switch: the old release hangs up, and only then does the new one connect.

For services without a listening socket that hold a connection to somewhere else. Five words, spoken with what is there
already: the service says `armed`, `connected`, `draining` and `drained` as X_STATE on its notify socket; it is told to
connect, to hang up and to exit by its resume, pause and stop signals. Every order is answered with the state, also when
it changes nothing, so an order may be repeated, and a supervisor that was killed goes on by giving it once more.
"""

import time
from typing import Any, Protocol

from . import spec as specs
from .instance import HUNG_UP, Instance
from .loop import Loop, Timer
from .record import boottime

Json = dict[str, Any]
_HANGUP_S = 2.0  # an old one that is silent for so long is left connected: both is better than nobody


class Owner(Protocol):
    """What the order needs of the supervisor."""

    loop: Loop
    record: Json
    instances: dict[str, Instance]

    def trial_instance(self) -> Instance | None: ...
    def switched(self, new: Instance, old: Instance | None, **fields: Any) -> None: ...
    def rule(self, bad: Instance, reason: str, cause: str, noticed: float) -> None: ...


class Overlap:
    """The overlap switch that is under way, if one is. Which order comes next follows from the record and from what
    both sides have said; a supervisor that knows nothing else begins with the first order and comes to the same end."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self._connecting = False
        self._began = 0.0
        self._timer: Timer | None = None

    def under_way(self) -> bool:
        """Whether the release on trial has not been heard to be connected yet."""
        trial, new = self.owner.record["trial"], self.owner.trial_instance()
        return bool(trial and trial["switched"] is None and new is not None and new.state == "active")

    def begin(self) -> None:
        """Give the first order; the record is on disk. Done again by a supervisor that finds a switch under way."""
        self._connecting, self._began = False, time.monotonic()
        old = self._old()
        if old is not None and self._takes(old):
            if old.state == "standby":  # one that is not kept has been told with its retirement
                old.pause()
            self._wait(_HANGUP_S, self._connect)
        self.go_on()

    def go_on(self) -> None:
        """Give the next order if its time has come: to be called after every word and every death."""
        if not self.under_way():
            return
        new, old = self.owner.trial_instance(), self._old()
        assert new is not None
        if not self._connecting:
            if old is None or not self._takes(old):
                self._connect()
        elif new.said == "connected":
            self._done(new)

    def heard(self, instance: Instance) -> None:
        """An instance has said where it stands."""
        if self.under_way():
            self.go_on()
        elif instance.state == "active" and instance.said == "armed":
            instance.resume()  # it had not said a word when it was switched to, and was taken for one that never does

    def back(self, standby: Instance) -> bool:
        """Whether a parked release that was told to connect again has yet to say that it has; the wait has an end."""
        if not standby.speaks or standby.said not in HUNG_UP:
            return False

        def late() -> None:
            if standby.state == "active" and standby.said in HUNG_UP:
                standby.abort(f"not connected again in {standby.spec['start_timeout_s']:g} s")

        self._wait(standby.spec["start_timeout_s"], late)
        return True

    def _old(self) -> Instance | None:
        return self.owner.instances.get(self.owner.record["trial"].get("old") or "")

    def _takes(self, old: Instance) -> bool:
        """Whether the old one still takes events and is to stop that before the new one begins."""
        new = self.owner.trial_instance()
        beside = new is not None and new.spec["standby"] == "running"
        return not beside and old.alive and old.speaks and old.said not in HUNG_UP

    def _connect(self) -> None:
        new = self.owner.trial_instance()
        if not self.under_way() or new is None:
            return
        self._connecting = True
        new.resume()
        if not new.speaks:  # it knows no orders and has been connected since its start
            self._done(new)
            return
        within = new.spec["start_timeout_s"]
        self._wait(within, lambda: self._late(f"not connected in {within:g} s"))
        self.go_on()

    def _late(self, cause: str) -> None:
        new = self.owner.trial_instance()
        if self.under_way() and new is not None:
            self.owner.rule(new, "not connected", cause, boottime())

    def _done(self, new: Instance) -> None:
        self._cancel()
        took = round((time.monotonic() - self._began) * 1000, 1)
        self.owner.switched(new, self._old(), switch_ms=took)

    def _wait(self, seconds: float, call: Any) -> None:
        self._cancel()
        self._timer = self.owner.loop.after(seconds, call)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def parks(spec: Json) -> bool:
    """Whether the release before `spec` is kept without taking anything while `spec` is on trial."""
    return specs.pauses(spec) or bool(spec["handover"] == "overlap" and spec["standby"] == "paused")
