"""The verbs and the rule: an unproven release that dies, fails its probes or is not promoted in time is replaced
by the last good one, by the supervisor alone."""

import os
import signal
import time
from collections.abc import Callable
from typing import Any

from . import spec as specs
from .control import Client, Control, Refused
from .handover import Overlap, parks
from .instance import Instance
from .logs import Logs
from .loop import Loop, Timer
from .moving import move
from .processes import Process
from .record import Journal, Record, boot_id, boottime
from .sockets import Sockets
from .units import UnitInstance

Json = dict[str, Any]


class Supervisor:
    """Of one service.

    `units` says which systemd holds the processes ("user" or "system"), or "" when they are children of this one.
    `store` keeps a copy of each listening socket.
    """

    def __init__(  # noqa: PLR0917
        self,
        loop: Loop,
        name: str,
        directory: str,
        control_path: str,
        runtime: str,
        units: str = "",
        store: Callable[[int], None] = lambda _: None,
    ) -> None:
        self.loop, self.name, self.runtime, self.units = loop, name, runtime, units
        self._kind = UnitInstance if units else Instance
        self.sockets = Sockets(store)
        self.logs = Logs(loop, self._log_moved, lambda path, what: self.tell("log_trouble", log=path, cause=what))
        self._file = Record(directory)
        self.record, displaced = self._file.load()
        self._journal = Journal(directory, self.record["seq"])
        self.instances: dict[str, Instance] = {}
        self._overlap = Overlap(self)
        self._restart: Timer | None = None
        self._moving: list[Callable[[str], None]] | None = None
        self._trial_timers: list[Timer] = []
        self._quitting = False
        self._trap_works = False
        self._began = time.time()
        self._displaced = displaced
        self._verbs: dict[str, Callable[[Json], Json]] = {
            "status": self._status,
            "start": self._start,
            "switch": self._switch,
            "promote": self._promote,
            "fall_back": self._fall_back_asked,
            "stop": self._stop,
            "signal": self._signal,
            "discard": self._discard,
            "unpin": self._unpin,
            "shutdown": self._shutdown,
        }
        self.control = Control(loop, control_path, self._handle)

    # The record

    def save(self, must: bool) -> None:
        """Write the record. With must=False a full disk is no reason to leave the service down (F14)."""
        self.record["boot"] = boot_id()
        self.record["seq"] = self._journal.seq
        self.record["instances"] = {token: instance.to_json() for token, instance in self.instances.items()}
        self.record["sockets"] = self.sockets.describe()
        try:
            self._file.save(self.record)
        except OSError:
            if must:
                raise

    def tell(self, event: str, instance: Instance | None = None, **fields: Any) -> None:
        if instance is not None:
            fields = {"token": instance.token, "release": instance.spec["id"]} | fields
        self.control.publish(self._journal.append(event, fields))

    def promise(self, event: str, instance: Instance, **fields: Any) -> Json:
        """Put an event into the record, with the change that it tells of: a kill between the record and the journal
        would lose it for whoever waits for it. It may be told twice, never not at all."""
        entry = {"event": event, "token": instance.token, "release": instance.spec["id"], **fields}
        self.record["untold"] = [*self.record["untold"], entry]
        return entry

    def keep_promises(self) -> None:
        untold, self.record["untold"] = self.record["untold"], []
        for entry in untold:
            self.tell(**entry)

    def _instance(self, role: str) -> Instance | None:
        return self.instances.get(self.record[role] or "")

    # Start of the supervisor itself: adoption

    def adopt(self, escrow: list[int], traps: dict[str, int] | None = None) -> None:
        """Go on from the record: adopt what lives, judge what died, start what should run. Never a second copy."""
        record = self.record
        same_boot = record["boot"] in ("", boot_id())
        dead, unborn = [], []
        living: list[Process] = []
        if not same_boot:
            record["crashes"] = []
            record["down_since"] = boottime() if record["down_since"] else None
        for token, data in record["instances"].items():
            instance = self._kind.from_json(self, data)
            self.instances[token] = instance
            if same_boot and instance.adopt() and instance.process is not None:
                living.append(instance.process)
            elif same_boot and instance.state == "starting":
                # It waited for its address, or ended with our predecessor before its program ran, or by itself, or of a
                # bind that nobody answered, which nobody saw: it may start now, and if it is bad, that will be seen.
                unborn.append(instance)
            elif instance.state != "held" or not same_boot:
                dead.append(instance)
        lost = self.sockets.take_back(record["sockets"], escrow, living)
        facts: Json = {"adopted": len(living), "sockets_lost": lost, "traps_lost": self._take_back_traps(traps or {})}
        self.tell("supervisor_started", pid=os.getpid(), same_boot=same_boot, **facts)
        if self._displaced:
            self.tell("record_unreadable", kept_as=self._displaced)
        cause = "it died while no supervisor ran" if same_boot else "the machine was started anew"
        self.keep_promises()
        for instance in dead:
            instance.lost(cause)
        for instance in unborn:
            instance.launch(instance.paused)
        for instance in list(self.instances.values()):
            self._go_on(instance)
        trial = self.trial_instance()
        if trial is not None and trial.state == "active":
            self._arm_trial()
        elif trial is not None and trial.state == "held" and self._instance("active") is None:
            self._start_held(trial)
        if record["desired"] == "running" and not record["active"] and not self._restart and trial is None:
            ending = next((i for i in self.instances.values() if i.state == "stopping"), None)
            apart = (
                "exclusive" in (ending.spec["handover"], (record["good"] or {}).get("handover")) if ending else False
            )
            if ending is not None and (apart or record["exchange"]):
                ending.after_end.append(self._run_good)
            else:
                self._run_good()
        elif record["exchange"] and trial is None and not self.instances:
            self._exchange("bring_back", lambda cause: None)
        self.save(must=False)

    def _take_back_traps(self, traps: dict[str, int]) -> list[str]:
        """Answer again for the programs that were proved; returns the tokens of those whose binds fail from now on."""
        lost = []
        for token, instance in self.instances.items():
            if instance.process is None or not instance.spec["trap_bind"] or instance.state == "starting":
                continue
            if token in traps and all(entry["address"] in self.sockets.held for entry in instance.spec["sockets"]):
                instance.set_trap(traps.pop(token))
            else:
                lost.append(token)
        for left in traps.values():
            os.close(left)
        return lost

    def _go_on(self, instance: Instance) -> None:
        """Signals between record and act may not have been sent: sending them twice does no harm."""
        settled = self.record["trial"] or self.record["falling"]
        if instance.state == "stopping":
            self._continue_switch_after(instance)
            if instance.speaks:
                instance.retire()
            else:
                instance.end(instance.spec["stop_timeout_s"])
        elif instance.state == "active" and self._overlap.under_way():
            self._overlap.begin()
        elif instance.state == "active":
            if settled and instance.alive:
                instance.resume()
            instance.watch_health()
            if not self._overlap.back(instance):
                self._announce(instance)
        elif instance.state == "held" and not self.record["trial"] and self.record["active"] == instance.token:
            self._exchange("bring_back", lambda cause: self._begin(instance, cause))
        elif instance.state == "standby":
            trial = self.trial_instance()
            if trial is not None and parks(trial.spec):
                instance.pause()

    # The verbs

    def _handle(self, verb: str, request: Json, client: Client) -> Json | None:
        if verb == "subscribe":
            client.send({"id": request.get("id"), "ok": True, "seq": self._journal.seq})
            for event in self._journal.after(int(request.get("after", 0))):
                client.send({"event": event})
            client.subscribed = True
            return None
        if verb == "sockets":
            held = list(self.sockets.held.items())
            names = [self.sockets.names[address] for address, _ in held]
            traps = {token: i.trap.fd for token, i in self.instances.items() if i.trap is not None and i.trap.fd >= 0}
            answer = {"id": request.get("id"), "ok": True, "names": names, "addresses": [a for a, _ in held]}
            fds = [*(listening.fileno() for _, listening in held), *traps.values()]
            client.send(answer | {"traps": list(traps)}, fds)
            return None
        if verb == "launch":
            starting = self.instances.get(str(request.get("token")))
            if not isinstance(starting, UnitInstance):
                raise Refused("unknown_token", f"cannot launch {request.get('token')}: nobody asked for its start")
            starting.launch_asked(client, request.get("id"))
            return None
        if verb not in self._verbs:
            known = ", ".join([*self._verbs, "subscribe", "sockets"])
            raise Refused("unknown_verb", f"cannot do {verb!r}: the verbs are {known}")
        if self._quitting and verb != "status":
            raise Refused("quitting", f"cannot {verb}: the supervisor is stopping; start it again first")
        return self._verbs[verb](request)

    def _status(self, request: Json) -> Json:
        record, active, trial = self.record, self._instance("active"), self.record["trial"]
        if active is not None and active.state == "active" and not self._overlap.under_way():
            state = "running"
        elif active is not None or trial:
            state = "starting" if not trial else "switching"
        else:
            state = "down" if record["desired"] == "running" else "stopped"
        roles = {role: self._instance(role) for role in ("active", "standby", "candidate")}
        return {
            "name": self.name,
            "state": state,
            **{role: instance and instance.describe() for role, instance in roles.items()},
            "trial": trial and {**trial, "remaining_s": self._remaining()},
            "good": specs.brief(record["good"]),
            "previous": specs.brief(record["previous"]),
            "pins": list(record["pins"].values()),
            "sockets": [{"name": self.sockets.names[a], "address": a} for a in self.sockets.held],
            "stopping": [i.token for i in self.instances.values() if i.state == "stopping"],
            "seq": self._journal.seq,
            "exchanges": True,
            "supervisor": {"pid": os.getpid(), "started_at": self._began, "units": self.units},
        }

    def _start(self, request: Json) -> Json:
        token, role = str(request["token"]), request.get("role", "candidate")
        seq = self._journal.seq
        known = self.instances.get(token)
        if known is not None and known.state != "stopping":
            return {"instance": known.describe(), "seq": seq, "adopted": True}
        release = specs.check(request["release"])
        name = release["id"]
        pin = self.record["pins"].get(release["digest"])
        if pin and not request.get("force"):
            why = f"{pin['reason']}: {pin['cause']}"
            raise Refused("pinned", f"cannot start {name}: it is pinned bad ({why}); use force")
        if known is not None or (role == "active" and self.instances):
            text = f"cannot start {name} as {role}: {self._whats_there()}; start it as candidate or wait"
            raise Refused("busy", text)
        if role == "candidate" and (self.record["trial"] or self.record["candidate"]):
            text = f"cannot start {name}: {self._whats_there()}; promote, fall back or discard it first"
            raise Refused("busy", text)
        if role not in ("active", "candidate") or (role == "active" and release["exchange"]):
            raise Refused("bad_request", f"cannot start {name}: role must be active, without exchange, or candidate")
        if release["trap_bind"]:
            self._check_trap(name)
        if release["required"] is None:
            # At least as alive as what it replaces (F23); what fails already must not block its own repair.
            active = self._instance("active")
            failing = active.health.failing() if active is not None else []
            release["required"] = [name for name in specs.required(release) if name not in failing]
        instance = self._kind(self, token, release, asked=True)
        before = dict(self.record)
        self.instances[token] = instance
        self.record[role] = token
        if role == "active":
            self.record["desired"] = "running"
            if self.record["exchange"]:  # a trial was stopped: its data ends with it
                instance.state = "held"
        elif release["exchange"] or "exclusive" in (release["handover"], self._handover_of_active()):
            instance.state = "held"
        if instance.state == "held":
            self._hold(instance, role, before)
        if role == "active":
            self._cancel_restart()
        if instance.state != "held":
            self.tell("starting", instance, role=role)
            # A unit of systemd is not heard when it says `armed`, and would wait for `connect` for ever.
            words = release["handover"] == "overlap" and not self.units
            instance.launch(role == "candidate" and (words or specs.pauses(release)))
            if instance.pid is None:  # it waits for its address: a promise of a start must outlive us as well
                self.save(must=False)
        elif role == "active":
            self._exchange("bring_back", lambda cause: self._begin(instance, cause))
        return {"instance": instance.describe(), "seq": seq, "adopted": False}

    def _handover_of_active(self) -> str:
        """An exclusive one holds its address by itself, so nothing is started beside it whatever the new one is."""
        active = self._instance("active")
        return str(active.spec["handover"]) if active is not None else ""

    def _check_trap(self, name: str) -> None:
        from . import trap  # here, so that other services' supervisors are spared its memory

        reason = None if self._trap_works else trap.supported()
        if reason is not None:
            text = f"cannot start {name} with trap_bind: this machine cannot do it: {reason}"
            raise Refused("no_trap", f'{text}; use handover = "exclusive", without trap_bind and [service.listen]')
        self._trap_works = True

    def _hold(self, instance: Instance, role: str, before: Json) -> None:
        self.promise("held", instance, role=role)
        try:
            self.save(must=True)
        except OSError as error:
            del self.instances[instance.token]
            self.record = before
            text = f"cannot start {instance.spec['id']}: the record cannot be written ({error}); free some space"
            raise Refused("disk", text) from error
        self.keep_promises()
        self.save(must=False)

    def _whats_there(self) -> str:
        return ", ".join(f"{instance.spec['id']} is {instance.state}" for instance in self.instances.values())

    def _switch(self, request: Json) -> Json:
        token = str(request["token"])
        trial = self.record["trial"]
        if (trial and trial["token"] == token) or self.record["active"] == token:
            return {"state": "switched", "seq": self._journal.seq, "again": True}
        candidate = self._instance("candidate")
        if candidate is None or candidate.token != token or candidate.state not in ("proved", "held"):
            raise Refused("not_proved", f"cannot switch to {token}: it is not a proved candidate; start it first")
        held = candidate.state == "held"
        if not held and not candidate.alive:
            raise Refused("not_proved", f"cannot switch to {token}: it has just died")
        seq, began = self._journal.seq, time.monotonic()
        before = dict(self.record)
        old = self._instance("active")
        self._cancel_restart()
        serving = old is not None and old.state == "active"
        # An old one that cannot be paused goes on serving beside the new one, unless no standby is wanted.
        keeps = serving and not held and candidate.spec["standby"] != "none"
        overlaps = not held and candidate.spec["handover"] == "overlap"
        if overlaps and parks(candidate.spec) and old is not None and not old.pausable:
            keeps = False  # two are not to be connected, and this one cannot hang up and live
        self.record |= {
            "candidate": None,
            "desired": "running",
            "active": self.record["active"] if held else token,
            "standby": old.token if old is not None and keeps else None,
            "exchange": candidate.spec["exchange"],
            "trial": {
                "token": token,
                "release": candidate.spec["id"],
                "from": specs.brief(old.spec if old is not None else self.record["good"]),
                "old": old and old.token,
                "bake_s": float(request["bake_s"]),
                "confirm_within_s": float(request["confirm_within_s"]),
                "switched": None if held or overlaps else boottime(),
                "switched_at": None if held or overlaps else round(time.time(), 3),
            },
        }
        states = {instance: instance.state for instance in (candidate, old) if instance is not None}
        if not held:
            candidate.move("active")
        if old is not None:
            old.move("standby" if keeps else "stopping")
        entry = self._promise_switched(candidate, old) if not held and not overlaps else {}
        try:
            self.save(must=True)  # the rule is on disk before anything is done
        except OSError as error:
            self.record = before
            for instance, state in states.items():
                instance.state = state
            raise Refused("disk", f"cannot switch: the record cannot be written ({error}); free some space") from error
        if held:
            if old is None:
                self._start_held(candidate)
            else:
                self.record["down_since"] = boottime()
                self._continue_switch_after(old)
                old.retire()
            return {"state": "switching", "seq": seq, "again": False}
        if not overlaps:
            candidate.resume()
        if old is not None and keeps:
            old.stop_watching()
            if specs.pauses(candidate.spec):
                old.pause()
        elif old is not None:
            old.retire()
        if overlaps:
            self._overlap.begin()
            return {"state": "switching" if self._overlap.under_way() else "switched", "seq": seq, "again": False}
        entry["switch_ms"] = _ms(time.monotonic() - began)
        self._begin_trial(candidate)
        return {"state": "switched", "seq": seq, "again": False}

    def _promise_switched(self, new: Instance, old: Instance | None, **fields: Any) -> Json:
        source = old.spec["id"] if old is not None else (self.record["trial"]["from"] or {}).get("id")
        beside = self._instance("standby")
        standby = "none" if beside is None else "paused" if parks(new.spec) and beside.pausable else "running"
        fields = {"from": source, "to": new.spec["id"], "version": new.version, "standby": standby, **fields}
        return self.promise("switched", new, **fields)

    def switched(self, new: Instance, old: Instance | None, **fields: Any) -> None:
        """The release on trial has taken over: its trial begins."""
        self.record["trial"] |= {"switched": boottime(), "switched_at": round(time.time(), 3)}
        self._promise_switched(new, old, **fields)
        self.save(must=False)
        self._begin_trial(new)

    def _begin_trial(self, new: Instance) -> None:
        self.keep_promises()
        new.watch_health()
        self._arm_trial()
        self.save(must=False)

    def _continue_switch_after(self, old: Instance) -> None:
        trial = self.trial_instance()
        if trial is not None and trial.state == "held":
            old.after_end.append(lambda: self._start_held(trial))

    def _start_held(self, instance: Instance) -> None:
        if instance.state == "held" and self.record["trial"]:
            self.record["down_since"] = self.record["down_since"] or boottime()
            self._exchange("set_aside", lambda cause: self._begin(instance, cause))

    def _begin(self, instance: Instance, cause: str) -> None:
        """Its data is in place, or cannot be put there."""
        if instance.state == "held" and self.instances.get(instance.token) is instance:
            self.record["active"] = instance.token
            instance.launch() if not cause else instance.refuse(cause)

    # The data that changes hands with the code

    def _exchange(self, what: str, then: Callable[[str], None]) -> None:
        """Move the data, if some goes with the code, and call `then` with what went wrong, or "".

        The record names the exchange from the switch on until it is promoted or taken back: whoever starts the last
        good release, in whatever life, brings its data back first.
        """
        if self._moving is not None:
            self._moving.append(then)
        elif not self.record["exchange"]:
            then("")
        else:
            self._moving = [then]
            try:
                move(self.loop, what, self.record["exchange"], lambda cause: self._moved(what, cause))
            except OSError as error:
                cause = f"cannot move the data: {error}"
                self.loop.after(0, lambda: self._moved(what, cause))

    def _moved(self, what: str, cause: str) -> None:
        waiting, self._moving = self._moving or [], None
        if what == "bring_back" and not cause:
            self.record["exchange"] = None
        self.tell(what, cause=cause)
        self.save(must=False)
        for call in waiting:
            call(cause)

    def _promote(self, request: Json) -> Json:
        token, trial, active = request["token"], self.record["trial"], self._instance("active")
        if active is None or active.token != token or active.state != "active" or self._overlap.under_way():
            raise Refused("not_on_trial", f"cannot promote {token}: it is not the active release")
        if trial:
            if doubt := active.health.doubt():  # fewer strikes than end the trial, and yet not well (F23)
                raise Refused("not_well", f"cannot promote {active.spec['id']}: {doubt}; ask again")
            before = dict(self.record)
            good = self.record["good"]
            standby = self._instance("standby")
            other = good is not None and good["digest"] != active.spec["digest"]
            # Code that knew the data before may never be started on it by the supervisor alone (F21).
            previous = None if self.record["exchange"] else good if other else self.record["previous"]
            self.record |= {
                "previous": previous,
                "good": active.spec | {"exchange": None},
                "exchange": None,
                "trial": None,
                "standby": None,
                "crashes": [],
                "pins": {d: pin for d, pin in self.record["pins"].items() if d != active.spec["digest"]},
            }
            if standby is not None:
                standby.move("stopping")
            self.promise("promoted", active, version=active.version)
            try:
                self.save(must=True)
            except OSError as error:
                self.record = before
                if standby is not None:
                    standby.state = "standby"
                raise Refused("disk", f"cannot promote: the record cannot be written ({error})") from error
            self._disarm_trial()
            if standby is not None:
                standby.retire()
            self.keep_promises()
            self.save(must=False)
        return {"seq": self._journal.seq, "again": not trial}

    def _fall_back_asked(self, request: Json) -> Json:
        active, trial = self.trial_instance() or self._instance("active"), self.record["trial"]
        seq, reason = self._journal.seq, str(request.get("reason", "asked"))
        if request.get("token") not in (None, active and active.token):  # a repeated request: it is done already
            return {"seq": seq, "again": True}
        target = self.record["good"] if trial else self.record["previous"]
        if active is None or target is None or active.state in ("held", "stopping"):
            raise Refused("no_fallback", "cannot fall back: there is no earlier good release; deploy one")
        self._fall_back(active, target, "asked", reason, boottime())
        return {"to": specs.brief(target), "seq": seq, "again": False}

    def _stop(self, request: Json) -> Json:
        seq = self._journal.seq
        self.record["desired"] = "stopped"
        self._end_all(Instance.retire)
        return {"state": "stopping", "seq": seq}

    def _end_all(self, end: Callable[[Instance], None]) -> None:
        self._cancel_restart()
        self._disarm_trial()
        self.record |= {"trial": None, "falling": None, "down_since": None, "crashes": []}
        self.record |= {"active": None, "standby": None, "candidate": None}
        for instance in list(self.instances.values()):
            instance.after_end.clear()
            if instance.state == "held":
                del self.instances[instance.token]
            elif instance.state != "stopping" or self._quitting:  # whoever quits does not wait for a long drain
                end(instance)
        self.save(must=False)
        if not self.instances:
            self._all_gone()

    def _all_gone(self) -> None:
        self._exchange("bring_back", lambda cause: self._stopped())

    def _stopped(self) -> None:
        self.tell("stopped", quitting=self._quitting)
        self.save(must=False)
        if self._quitting:
            self.loop.stop()

    def _signal(self, request: Json) -> Json:
        instance = self.instances.get(str(request["token"]))
        if instance is None or instance.process is None:
            raise Refused("unknown_token", f"cannot signal {request['token']}: no such instance runs")
        return {"sent": instance.process.send(specs.signal_number(request["signal"]))}

    def _discard(self, request: Json) -> Json:
        candidate = self._instance("candidate")
        if candidate is None or candidate.token != request["token"]:
            return {"seq": self._journal.seq, "again": True}
        self.record["candidate"] = None
        self.tell("discarded", candidate)
        if candidate.state == "held":
            del self.instances[candidate.token]
        else:
            candidate.end(candidate.spec["stop_timeout_s"])
        self.save(must=False)
        return {"seq": self._journal.seq, "again": False}

    def _unpin(self, request: Json) -> Json:
        gone = self.record["pins"].pop(request["digest"], None)
        self.save(must=True)
        return {"was_pinned": gone is not None}

    def _shutdown(self, request: Json) -> Json:
        if request.get("keep_service"):
            self.save(must=False)
            self.loop.after(0, self.loop.stop)
        else:
            self.loop.after(0, lambda: self.quit(signal.SIGTERM))
        return {"keeps_service": bool(request.get("keep_service"))}

    def quit(self, number: int) -> None:
        """SIGTERM, SIGINT, SIGHUP: stop the service cleanly and exit; the next supervisor starts the last good one."""
        if self._quitting:
            for instance in self.instances.values():
                instance.abort("killed: the supervisor was told twice to stop")
            return
        self._quitting = True
        self.tell("supervisor_stopping", signal=signal.Signals(number).name)
        self._end_all(lambda instance: instance.end(instance.spec["stop_timeout_s"]))

    # What instances tell

    def proved(self, instance: Instance) -> None:
        record, token = self.record, instance.token
        facts = {"version": instance.version, "pid": instance.pid, "start_time": instance.start_time}
        self.promise("proved", instance, ms=_ms(boottime() - instance.began), **facts)
        active = token == record["active"]
        if active:
            instance.move("active")
        if active and record["trial"]:  # exclusive: the switch ends here
            down, record["down_since"] = record["down_since"] or boottime(), None
            self.switched(instance, None, down_ms=_ms(boottime() - down))
            return
        if active and (record["good"] is None or record["good"]["digest"] != instance.spec["digest"]):
            record["previous"], record["good"] = record["good"] or record["previous"], instance.spec
        self.save(must=False)
        self.keep_promises()
        if active:
            instance.watch_health()
            self._announce(instance)
        self.save(must=False)

    def _announce(self, instance: Instance) -> None:
        """The active release serves: say how it came back, once."""
        record = self.record
        falling, down = record["falling"], record["down_since"]
        if not falling and not down:
            return
        record["falling"] = record["down_since"] = None
        if falling:
            since = falling.pop("noticed")
            self.tell("fell_back", instance, **falling, down_ms=_ms(boottime() - since))
        else:
            self.tell("up", instance, down_ms=_ms(boottime() - down))
        self.save(must=False)

    def ended(self, instance: Instance, cause: str, tail: str, noticed: float) -> None:
        """A process is gone, for whatever reason; the record says what that means."""
        was, record, token = instance.state, self.record, instance.token
        instance.state = "gone"
        self.instances.pop(token, None)
        trial = record["trial"]
        if was == "stopping":
            for role in ("active", "standby", "candidate"):
                record[role] = None if record[role] == token else record[role]
            self.promise("ended", instance, cause=cause)  # what starts after it writes the record
            for call in instance.after_end:
                call()
            self.keep_promises()
            if not self.instances and (record["desired"] == "stopped" or self._quitting):
                self._all_gone()
        elif token == record["candidate"]:
            record["candidate"] = None
            self.tell("candidate_failed", instance, cause=cause, log_tail=tail)
        elif trial and trial["token"] == token:
            if trial["switched"] is None:
                self.tell("candidate_failed", instance, cause=cause, log_tail=tail)
            self.rule(instance, "start failed" if was == "starting" else "died", cause, noticed)
        elif token == record["standby"]:
            record["standby"] = None
            self.tell("standby_died", instance, cause=cause)
        elif token == record["active"]:
            self._active_lost(instance, was, cause, tail, noticed)
        self.save(must=False)
        self._overlap.go_on()

    def heard(self, instance: Instance) -> None:
        """It has said where it stands."""
        self._overlap.heard(instance)
        if instance.state == "active" and instance.said == "connected":
            self._announce(instance)

    def unhealthy(self, instance: Instance, probe: str, cause: str) -> bool:
        """Strikes in a row; whether it was told. On trial a required probe is the end of it; a promoted release is not
        killed for a probe, and while a job replaces it nothing is said of it (F24)."""
        trial = self.record["trial"]
        on_trial = bool(trial) and trial["token"] == instance.token
        if self.record["candidate"] or (trial and not on_trial):
            return False
        self.tell("unhealthy", instance, probe=probe, cause=cause)
        if on_trial and probe in specs.required(instance.spec):
            self.rule(instance, "probe failed", f"probe {probe}: {cause}", boottime())
        return True

    def healthy(self, instance: Instance, probe: str) -> None:
        self.tell("healthy", instance, probe=probe)

    def _log_moved(self, path: str, count: int) -> None:
        for instance in self.instances.values():
            if instance.spec["log"] == path:
                instance.log_moved(count)
        self.save(must=False)

    # The rule

    def trial_instance(self) -> Instance | None:
        trial = self.record["trial"]
        return self.instances.get(trial["token"]) if trial else None

    def _remaining(self) -> float | None:
        trial = self.record["trial"]
        if not trial or trial["switched"] is None:
            return None
        return float(trial["confirm_within_s"] - (boottime() - trial["switched"]))

    def _arm_trial(self) -> None:
        self._disarm_trial()
        trial, remaining = self.record["trial"], self._remaining()
        if remaining is None:
            return
        baked = trial["bake_s"] - (boottime() - trial["switched"])
        if baked > 0:
            self._trial_timers.append(self.loop.after(baked, self._baked))
        self._trial_timers.append(self.loop.after(remaining, self._unconfirmed))

    def _disarm_trial(self) -> None:
        for timer in self._trial_timers:
            timer.cancel()
        self._trial_timers.clear()

    def _baked(self) -> None:
        instance = self.trial_instance()
        if instance is not None:
            self.tell("baked", instance)

    def _unconfirmed(self) -> None:
        instance = self.trial_instance()
        if instance is not None:
            within = self.record["trial"]["confirm_within_s"]
            self.rule(instance, "not promoted in time", f"not promoted within {within:g} s", boottime())

    def rule(self, bad: Instance, reason: str, cause: str, noticed: float) -> None:
        """An unproven release has failed: the last good one comes back."""
        if self.record["good"] is not None:
            self._fall_back(bad, self.record["good"], reason, cause, noticed)
        elif bad.state == "gone":  # nothing is known to be good: what was on trial is all there is
            self.record["trial"] = None
            self._disarm_trial()
            self._active_lost(bad, "starting", cause, "", noticed)

    def _fall_back(self, bad: Instance, target: Json, reason: str, cause: str, noticed: float) -> None:
        """Pin first, then the way back, then the end of the bad one."""
        record, standby = self.record, self._instance("standby")
        unfinished = record["trial"] is not None and record["trial"]["switched"] is None
        warm = standby is not None and standby.alive
        # A fresh process of the good release itself (a restart) must not pin that release, nor may a full disk.
        if bad.spec["digest"] != target["digest"] and not bad.blameless:
            record["pins"][bad.spec["digest"]] = {
                **(specs.brief(bad.spec) or {}),
                "reason": reason,
                "cause": cause,
                "at": round(time.time(), 3),
            }
            if record["previous"] is not None and record["previous"]["digest"] == target["digest"]:
                record["previous"] = None
        self._cancel_restart()
        self._disarm_trial()
        record |= {
            "trial": None,
            "standby": None,
            "good": target,
            "crashes": [],
            "active": standby.token if standby is not None and warm else None,
            "falling": {
                "from": bad.spec["id"],
                "to": target["id"],
                "reason": reason,
                "cause": cause,
                "data": bool(record["exchange"]),
                "noticed": noticed,
            },
        }
        bad_runs = bad.state != "gone"
        if unfinished and bad_runs:
            self.promise("candidate_failed", bad, cause=cause, log_tail=bad.tail())
        if bad_runs:
            bad.move("stopping")
        if standby is not None:
            standby.move("active" if warm else "stopping")
        self.save(must=False)
        self.keep_promises()
        if standby is not None and standby.resume():
            standby.watch_health()
            if not self._overlap.back(standby):
                self._announce(standby)
        else:
            record["active"] = None
            if standby is not None and standby.state == "active":
                standby.move("stopping")  # it died between two instructions; its end is on its way
            if bad_runs and (record["exchange"] or "exclusive" in (bad.spec["handover"], target["handover"])):
                bad.after_end.append(self._run_good)
            else:
                self._run_good()
        if bad_runs:
            bad.end(bad.spec["stop_timeout_s"])

    # A proven release that dies

    def _run_good(self) -> None:
        self._restart = None
        good = self.record["good"]
        if good is None or self._quitting or self.record["desired"] != "running" or self.record["active"]:
            return
        if self.record["exchange"] or self._moving is not None:
            self._exchange("bring_back", self._run_good_again)
            return
        instance = self._kind(self, f"own-{self._journal.seq}-{os.urandom(4).hex()}", good, asked=False)
        self.instances[instance.token] = instance
        self.record["active"] = instance.token
        self.tell("starting", instance, role="active")
        instance.launch()

    def _run_good_again(self, cause: str) -> None:
        """After its data is back. Where it cannot be, the good release stays down: it never writes to newer data."""
        if not cause:
            self._run_good()
        elif (good := self.record["good"]) is not None:
            self.tell("start_failed", token="", release=good["id"], cause=cause)
            self._cancel_restart()
            self._restart = self.loop.after(good["restart"]["backoff_max_s"], self._run_good)

    def _cancel_restart(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    def _active_lost(self, instance: Instance, was: str, cause: str, tail: str, noticed: float) -> None:
        record = self.record
        record["active"] = None
        if was == "active":
            self.tell("crashed", instance, cause=cause, log_tail=tail)
        else:
            self.tell("candidate_failed" if instance.asked else "start_failed", instance, cause=cause, log_tail=tail)
        good = record["good"]
        if good is None:
            record["desired"] = "stopped"
            self.tell("stopped", quitting=False)
            return
        if instance.spec["digest"] != good["digest"]:
            self._fall_back(instance, good, "start failed", cause, noticed)
            return
        if record["down_since"] is None:
            record["down_since"] = noticed
            self.tell("down", instance, cause=cause)
        limits = good["restart"]
        stood = boottime() - instance.began if was == "active" else 0.0
        latched = len(record["crashes"]) >= limits["limit"] and stood < limits["window_s"]
        recent = [at for at in record["crashes"] if noticed - at < limits["window_s"]]
        record["crashes"] = [*(record["crashes"] if latched else recent), noticed][-int(limits["limit"]) :]
        count = len(record["crashes"])
        previous = record["previous"]
        if count >= limits["limit"] and previous is not None and previous["digest"] not in record["pins"]:
            self._fall_back(instance, previous, "crash loop", f"{count} crashes: {cause}", record["down_since"])
            return
        # Once the limit is reached the pace stays the slowest until the release has stood for a whole window.
        slow = count >= limits["limit"]
        growing = min(limits["backoff_s"] * 2 ** (count - 1), limits["backoff_max_s"])
        delay = limits["backoff_max_s"] if slow else growing
        self._cancel_restart()
        self._restart = self.loop.after(delay, self._run_good)


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 1)
