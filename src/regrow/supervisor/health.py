"""Whether one instance is well: each probe passes once (the proof), then is tried again and again (strikes)."""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from . import logs, probes, spec
from .loop import Timer
from .record import boottime

if TYPE_CHECKING:
    from .instance import Instance

Json = dict[str, Any]
_PROOF_RETRY_S = 0.2
_BEHIND_S = 0.05  # a log that was not read to its end is read on so soon
_FRESH: Json = {"passed": None, "strikes": 0, "cause": "", "failing": False, "told": False, "beats": False}


class Health:
    """The probes of one instance.

    `entries` has for each: passed (the last try; None before the first), strikes (failures in a row that count),
    cause (of the last failure), failing (as many strikes as it has), told (somebody was told of that), beats
    (WATCHDOG=1 was seen).
    """

    def __init__(self, instance: "Instance") -> None:
        self._of = instance
        self.entries: dict[str, Json] = {probe["name"]: dict(_FRESH) for probe in instance.spec["probes"]}
        self.calm_until = 0.0  # boottime; the service reported a migration, failures before then do not count
        self._watching = False
        self._tries: dict[str, probes.Try] = {}
        self._readings: dict[str, logs.Reading] = {}
        self._timers: dict[str, Timer] = {}

    def describe(self) -> Json:
        required = spec.required(self._of.spec)
        keys = ("passed", "strikes", "cause", "failing")
        return {
            name: {**{key: entry[key] for key in keys}, "required": name in required}
            for name, entry in self.entries.items()
        }

    def restore(self, entries: Json) -> None:
        """Go on from the record of an earlier supervisor."""
        for name, entry in self.entries.items():
            entry.update(entries.get(name, {}))

    def forget(self) -> None:
        """A new process: what the one before it has proved is not this one's proof."""
        for entry in self.entries.values():
            entry["passed"] = None

    def failing(self) -> list[str]:
        """The probes with as many failures in a row as they have strikes."""
        return [name for name, entry in self.entries.items() if entry["failing"]]

    def doubt(self) -> str:
        """A required probe whose last try failed, with its cause; "" if there is none."""
        wanted = spec.required(self._of.spec)
        bad = (name for name in wanted if self.entries[name]["passed"] is False)
        return next((f"probe {name}: {self.entries[name]['cause']}" for name in bad), "")

    # The proof

    def missing(self) -> list[str]:
        """What is not proved yet, with the cause of the last failure."""
        wanted = [(name, self.entries[name]) for name in spec.required(self._of.spec)]
        return [f"probe {name}: {entry['cause'] or 'no answer yet'}" for name, entry in wanted if not entry["passed"]]

    def proved(self) -> bool:
        """Every required probe has passed. Where nothing is required one of the others must show life, or `Instance`
        waits as long as a start may take: such a release replaces one that fails them all."""
        if spec.required(self._of.spec) or self._of.spec["ready"] != "probe":
            return not self.missing()
        return not self.entries or any(entry["passed"] for entry in self.entries.values())

    def prove(self) -> None:
        """Try each probe that has not passed until it has."""
        for probe in self._of.spec["probes"]:
            name = probe["name"]
            if not self.entries[name]["passed"] and name not in self._tries and probe["type"] != "ready":
                self._try(probe, self._proof_tried)

    def said_ready(self) -> None:
        """READY=1 came."""
        for probe in self._of.spec["probes"]:
            if probe["type"] == "ready":
                self.entries[probe["name"]] |= {"passed": True, "cause": ""}

    def _proof_tried(self, probe: Json, passed: bool, cause: str, version: str | None) -> None:
        if self._of.state not in ("starting", "proved"):
            return
        if self._of.anothers(version):
            passed = False
            self.entries[probe["name"]]["cause"] = f"{version} answers, not {self._of.spec['version']}"
        else:
            self._of.version = version or self._of.version
        self.entries[probe["name"]]["passed"] = passed
        if not passed:
            retry = min(float(probe["interval_s"]), _PROOF_RETRY_S)
            self._after(probe, retry, lambda: self._try(probe, self._proof_tried))
        elif self._of.state == "starting":
            self._of.perhaps_proved()

    # The watch

    def watch(self) -> None:
        """Try every probe at its interval from now on; told are the strikes in a row and the first pass after."""
        self.stop()
        self._watching = True
        for probe in self._of.spec["probes"]:
            self.entries[probe["name"]]["strikes"] = 0
            self._later(probe)

    def stop(self) -> None:
        """Try nothing any more."""
        self._watching = False
        for timer in self._timers.values():
            timer.cancel()
        for attempt in list(self._tries.values()):
            attempt.cancel()
        self._tries.clear()

    def beat(self, word: str) -> None:
        """WATCHDOG=1 came: it has to come again within the interval. WATCHDOG=trigger: the service gives itself up."""
        for probe in self._of.spec["probes"]:
            entry = self.entries[probe["name"]]
            if probe["type"] != "ready":
                continue
            if not entry["beats"]:
                entry["beats"] = True
                self._of.owner.save(must=False)
            if self._watching and word == "trigger":
                entry["strikes"] = probe["strikes"] - 1
                self._tried(probe, False, "it said WATCHDOG=trigger")
            elif self._watching:
                self._tried(probe, True)

    def _later(self, probe: Json) -> None:
        """Nothing is woken for what cannot change by itself."""
        name, kind, interval = probe["name"], probe["type"], float(probe["interval_s"])
        if kind == "ready":
            if self.entries[name]["beats"]:
                late = f"no WATCHDOG=1 in {interval:g} s"
                self._after(probe, interval, lambda: self._tried(probe, False, late))
        elif kind != "log" or probe["fail"]:
            reading = self._readings.get(name)
            soon = _BEHIND_S if reading is not None and reading.behind else interval
            self._after(probe, soon, lambda: self._try(probe, self._tried))

    def _tried(self, probe: Json, passed: bool, cause: str = "", version: str | None = None) -> None:
        if self._of.state != "active":
            return
        if self._of.anothers(version):
            self._later(probe)
            return
        name, entry, owner = probe["name"], self.entries[probe["name"]], self._of.owner
        entry |= {"passed": passed, "cause": "" if passed else cause}
        if passed:
            entry["strikes"] = 0
        elif boottime() >= max(self.calm_until, self._of.began + probe["grace_s"]):
            entry["strikes"] += 1
        self._later(probe)
        before = (entry["failing"], entry["told"])
        if entry["strikes"] >= probe["strikes"]:
            entry["failing"] = True
            entry["told"] = entry["told"] or owner.unhealthy(self._of, name, cause)
        elif passed and entry["failing"]:
            if entry["told"]:
                owner.healthy(self._of, name)
            entry["failing"] = entry["told"] = False
        if before != (entry["failing"], entry["told"]):
            owner.save(must=False)

    # One try

    def _try(self, probe: Json, then: Callable[[Json, bool, str, str | None], None]) -> None:
        name, of = probe["name"], self._of

        def done(passed: bool, cause: str, version: str | None) -> None:
            self._tries.pop(name, None)
            self.entries[name]["cause"] = "" if passed else cause
            then(probe, passed, cause, version)

        if probe["type"] == "log":
            self._tries[name] = probes.LogTry(of.owner.loop, probe, self._reading(name), done)
            return
        log = -1
        try:
            log = logs.opened(of.spec["log"])
            env = spec.environment(of.spec, {})
            self._tries[name] = probes.begin(of.owner.loop, probe, of.probe_address, of.spec["cwd"], env, log, done)
        except OSError as error:
            reason = str(error)
            self._after(probe, _PROOF_RETRY_S, lambda: done(False, reason, None))
        finally:
            if log >= 0:
                os.close(log)

    def _reading(self, name: str) -> logs.Reading:
        if name not in self._readings:
            # After the supervisor's own death what was in the log before has been judged.
            log = self._of.spec["log"]
            at = self._of.log_offset if self._of.state == "starting" else logs.size(log)
            self._readings[name] = logs.Reading(log, at, found=self._of.state != "starting")
        return self._readings[name]

    def log_moved(self, count: int) -> None:
        """Everything in the log has moved by so many bytes towards its start."""
        for reading in self._readings.values():
            reading.at = max(reading.at - count, 0)

    def _after(self, probe: Json, seconds: float, call: Callable[[], None]) -> None:
        if probe["name"] in self._timers:
            self._timers[probe["name"]].cancel()
        self._timers[probe["name"]] = self._of.owner.loop.after(seconds, call)
