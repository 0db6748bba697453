"""`regrow status`."""

from __future__ import annotations

import time
from typing import Any

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Service, Session, Socket
from regrow.cli.words import say

STATES = {"up": "green", "down": "red", "starting": "yellow", "stopped": "yellow"}


def status(service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """Show what runs: services, probes, jobs, channels, the daemon."""
    client = Session(socket, as_json, service).client()
    # The document as it is: the models would cost another 20 ms of the 250 a person is asked to wait.
    document: dict[str, Any] = client.document("GET", "/v1/status")
    if as_json:
        terminal.document(document)
        return exits.DONE
    for one in document["services"]:
        if service in ("", one["name"]):
            terminal.write("".join(f"{text}\n" for text in service_lines(one, time.time())))
    daemon = document["daemon"]
    console = f" · {daemon['console']}" if daemon.get("console") else ""
    since = terminal.spell(time.time() - daemon["started_at"])
    terminal.line(f"daemon {daemon['version']} · pid {daemon['pid']} · up {since}{console}", "dim")
    if document.get("channels"):
        terminal.write("channels  " + "  ".join(_check(one, "healthy") for one in document["channels"]) + "\n")
    if document.get("outbox_waiting"):
        terminal.line(f"outbox    {document['outbox_waiting']} waiting", "yellow")
    return exits.DONE


def service_lines(one: dict[str, Any], now: float) -> list[str]:
    """A service in a few lines, cleaned and painted.

    Args:
        one: a ServiceStatus as it came.
        now: seconds since 1970.
    """
    active = one.get("active")
    head = terminal.paint(one["state"], STATES.get(one["state"], ""))
    lines = [f"{terminal.paint(terminal.clean(one['name']), 'bold')}  {head}{_running(active, now)}"]
    if one.get("address"):
        lines.append(f"  address   {terminal.clean(one['address'])}")
    lines += [f"  {role:<9}{_running(one[role], now)}" for role in ("standby", "candidate") if one.get(role)]
    if one.get("baking_until"):
        lines.append(f"  bake      {terminal.spell(one['baking_until'] - now)} left")
    if one.get("fallback"):
        lines.append(f"  fallback  {terminal.clean(one['fallback'])}")
    if one.get("probes"):
        lines.append("  probes    " + "  ".join(_check(probe, "ok") for probe in one["probes"]))
    if one.get("job"):
        queue = "".join(f", then {number}" for number in one.get("queue", []))
        lines.append(terminal.paint(f"  job       {one['job']}{queue}", "cyan"))
    if one.get("pinned"):
        lines.append(terminal.paint(f"  pinned    {terminal.clean(', '.join(one['pinned']))}", "yellow"))
    if freeze := one.get("freeze"):
        told = {"by": freeze["by"], "since": _at(freeze["at"], now), "reason": freeze["reason"] or "-"}
        lines.append(terminal.paint(f"  {terminal.clean(say('frozen', **told))}", "cyan"))
    if until := one.get("quiet_until"):
        lines.append(terminal.paint(f"  {say('quiet', until=_at(until, now))}", "cyan"))
    if one.get("incidents"):
        lines.append(terminal.paint(f"  incidents {one['incidents']} open: `regrow incidents`", "red"))
    if one.get("crashes"):
        lines.append(terminal.paint(f"  crashes   {one['crashes']}", "red"))
    return lines


def _running(copy: dict[str, Any] | None, now: float) -> str:
    if not copy:
        return ""
    text = f"  {copy['version']} ({copy['release']}) · pid {copy['pid']} · up {terminal.spell(now - copy['since'])}"
    return terminal.clean(text)


def _at(when: float, now: float) -> str:
    shown = time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
    return shown[11:] if shown[:10] == time.strftime("%Y-%m-%d", time.localtime(now)) else shown


def _check(one: dict[str, Any], key: str) -> str:
    mark = terminal.paint("✓", "green") if one[key] else terminal.paint("✗", "red")
    detail = f" ({one['detail']})" if one.get("detail") and not one[key] else ""
    return f"{mark} {terminal.clean(one['name'] + detail)}"
