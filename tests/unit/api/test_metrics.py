"""What Prometheus reads: the state of now and the totals, under names that the dashboard and the page know."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from regrow.api.metrics import Source, exposition
from regrow.api.types import ChannelStatus, DaemonStatus, ProbeState, Running, ServiceStatus, Status
from regrow.jobs.ledger import Total

DOCS = Path(__file__).parents[3] / "docs"


def status(pid: int) -> Status:
    daemon = DaemonStatus(version="1.2", pid=1, started_at=100.0, ready_ms=900.0, rss_bytes=2**20)
    active = Running(release="r1", version='v"1', commit="c" * 40, pid=pid, since=50.0)
    services = [
        ServiceStatus(name="claw", state="up", active=active, probes=[ProbeState(name="health", ok=True)], queue=[7]),
        ServiceStatus(name="paw", state="down"),
    ]
    return Status(daemon=daemon, services=services, channels=[ChannelStatus(name="web", healthy=True)])


TOTALS = [
    Total("claw", "deploy", "done", 3, 42.5),
    Total("claw", "deploy", "waiting", 1, 0.0),
    Total("claw", "deploy", "doing", 1, 0.0),
]


def read(pid: int = os.getpid()) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(exposition(Source(status(pid), TOTALS)).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_totals_and_the_state_are_told() -> None:
    found = read()
    of_claw = (("service", "claw"),)
    done = (("kind", "deploy"), *of_claw, ("status", "done"))
    assert found["regrow_jobs_total", done] == 3
    assert found["regrow_job_seconds_total", done] == 42.5
    assert found["regrow_jobs_live", (("kind", "deploy"), *of_claw)] == 2
    assert found["regrow_service_state", (*of_claw, ("state", "up"))] == 1
    assert found["regrow_service_state", (("service", "paw"), ("state", "up"))] == 0
    assert found["regrow_service_release_info", (("release", "r1"), *of_claw, ("version", 'v"1'))] == 1
    assert found["regrow_service_probe_ok", (("probe", "health"), *of_claw)] == 1
    assert found["regrow_service_queue", of_claw] == 1
    assert found["regrow_service_resident_memory_bytes", of_claw] > 2**20
    assert found["regrow_ready_seconds", ()] == 0.9


def test_a_process_that_has_just_ended_has_no_memory_and_the_rest_is_told() -> None:
    found = read(pid=2**22 + 1)
    assert not [name for name, _ in found if name == "regrow_service_resident_memory_bytes"]
    assert found["regrow_service_start_time_seconds", (("service", "claw"),)] == 50.0


def test_the_dashboard_and_the_page_name_no_metric_that_there_is_not() -> None:
    known = {name for name, _ in read()}
    dashboard = json.loads((DOCS / "grafana" / "regrow.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for expression in asked for name in re.findall(r"regrow_\w+", expression)}
    assert len(named) >= 10
    assert named <= known
    page = (DOCS / "how-to" / "watch-with-prometheus.md").read_text()
    assert set(re.findall(r"`(regrow_\w+)", page)) <= known
    assert {name for name in known if f"`{name}" in page or name.removeprefix("regrow_service") in page} == known
