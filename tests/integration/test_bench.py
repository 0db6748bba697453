"""The benches run, in their smallest size, and print nothing but well-formed lines with the names that are agreed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from regrow.testing import postgres

ROOT = Path(__file__).parents[2]
DEADLINE_S = 900.0
UNITS = {
    "kills",
    "lives",
    "chains",
    "requests",
    "events",
    "connections",
    "ms",
    "s",
    "MiB",
    "%",
    "bool",
    "messages",
    "1/s",
    "times",
    "jobs",
    "effects",
    "attacks",
    "changes",
    "runs",
}
_SUPERVISOR = ("supervisor_wakeups", "supervisor_rss_mib")
_STORES = ("sqlite", "postgres") if postgres.programs() is not None else ("sqlite",)
_BY_STORE = [f"{store}/{case}" for store in _STORES for case in ("sweep", "random")]
_LOST = ("lost_jobs", "doubled_effects")
NEVER = (*_LOST, "escaped", "not_shown", "bad_accepted")
NAMES = {
    "switch": {
        *(("regrow/good", metric) for metric in ("failed_requests", "longest_gap_ms", "baseline_gap_ms")),
        *(("regrow/good", metric) for metric in ("first_new_ms", "down_ms", "resets", "went_back")),
        *(("regrow/crash_at_once", metric) for metric in ("failed_requests", "notice_ms", "served_by_dead")),
        *(("regrow/crash_1s", metric) for metric in ("failed_requests", "fallback_ms", "went_back")),
        *(("regrow/dies_in_bake", metric) for metric in ("failed_requests", "fallback_ms", "went_back")),
        *(("regrow/foreign", metric) for metric in ("failed_requests", "longest_gap_ms", "first_new_ms")),
        *(
            (f"regrow/{case}", metric)
            for case in ("outbound", "outbound_dies", "outbound_parked", "outbound_parked_dies")
            for metric in ("events", "lost_events", "doubled_events", "offline_ms", "went_back")
        ),
        *(("regrow/exclusive", metric) for metric in ("down_ms", "program_ms", "overhead_ms")),
        *(("regrow/saturated", metric) for metric in ("upgrades", "resets", "failed_requests", "queue")),
    },
    "jobs": {
        (case, metric) for case in ("restart", "deploy", "rollback", "repair") for metric in ("overhead_ms", "step_ms")
    },
    "messages": {
        *(("forwarding", metric) for metric in ("sent", "lost", "doubled", "reordered")),
        *(("forwarding", metric) for metric in ("intake_per_s", "ready_ms", "client_rss_mib")),
    },
    "chat": {("two_builds", "first_answer_p99_ms")},
    "gateway": {
        *(
            (f"request/{case}", metric)
            for case in ("short", "agent", "long")
            for metric in (
                "direct_p50_ms",
                "gateway_p50_ms",
                "gateway_p99_ms",
                "added_p50_ms",
                "added_p99_ms",
                "cpu_ms",
            )
        ),
        *(("run/agent", metric) for metric in ("run_s", "requests", "share_pct")),
    },
    "agents": {("run/claude", metric) for metric in ("run_s", "runs", "share_pct")},
    "kill": {
        (case, metric)
        for case in (*_BY_STORE, "machine/random", "enospc/sweep")
        for metric in ("kills", "jobs", *_LOST, "down_instants")
        if case != "enospc/sweep" or os.geteuid() == 0
    },
    "faults": {
        (case, metric)
        for case in ("supervisor/states", "supervisor/random", "daemon/states", "daemon/random")
        for metric in ("kills", "wrong_release", "second_copy", "refused_requests", "untold_events")
    },
    "escape": {
        *((case, metric) for case in ("agent", "test", "build") for metric in ("attacks", "escaped", "start_ms")),
        *(("egress", metric) for metric in ("start_ms",)),
    },
    "gate": {
        ("all", f"{quality}{what}")
        for quality in ("good", "bad")
        for what in ("", "_accepted", "_refused", "_to_person")
    },
    "daemon": {
        *((case, metric) for case in ("no_probes", "one_probe") for metric in _SUPERVISOR),
        *(("idle", metric) for metric in ("ready_ms", "rss_mib", "supervisor_rss_mib", "idle_cpu_pct", "status_ms")),
    },
}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_lines(name: str) -> None:
    if name != "switch" and shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed: no test and no build can run in the box")
    done = subprocess.run(
        [str(ROOT / "scripts" / "bench"), name, "--size", "smoke"],
        env={**os.environ, "REGROW_PYTHON": sys.executable},
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    for line in lines:
        assert line["bench"] == name
        assert isinstance(line["value"], (int, float))
        assert line["unit"] in UNITS
        if line["metric"] in NEVER:
            assert line["value"] == 0, done.stderr
        if line["metric"] == "step_ms":
            assert line["step"]
    assert {(line["case"], line["metric"]) for line in lines} >= NAMES[name]


def test_a_wrong_size_is_refused() -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "bench"), "switch", "--size", "huge"],
        env={**os.environ, "REGROW_PYTHON": sys.executable},
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 2
    assert not done.stdout


def run_python(*words: str, **options: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}", **{k: v for k, v in options.items() if k != "input"}}
    return subprocess.run(
        [sys.executable, *words],
        env=env,
        input=options.get("input", ""),
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )


def test_the_comparison_is_made_of_the_lines_of_a_run() -> None:
    figures = {"failed_requests": 0, "longest_gap_ms": 8.0, "down_ms": 0.0, "first_new_ms": 612.0, "went_back": 0}
    lines = [
        {"bench": "switch", "case": f"{peer}/{case}", "metric": metric, "value": value, "unit": "x"}
        for peer, case, more in (
            ("regrow", "good", {}),
            ("regrow", "dies_in_bake", {"went_back": 1, "failed_requests": 1, "down_ms": 1234.0}),
            ("other", "good", {"failed_requests": 7}),
        )
        for metric, value in {**figures, **more}.items()
    ]
    done = run_python("-m", "bench.table", input="".join(json.dumps(line) + "\n" for line in lines))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[2:] == [
        "| **Regrow** | 0 / 8 ms / 612 ms | – | – | 1 failed, down 1.2 s, v1 serves |",
        "| other | 7 / 8 ms / 612 ms | – | – | – |",
    ]


def test_a_peer_that_cannot_be_had_is_left_out_with_a_word(tmp_path: Path) -> None:
    """No node in the path, and a pip that fails."""
    code = (
        "import asyncio, bench.comparison as c, bench.lines as l; from bench.peers import PEERS;"
        "c.PEERS = [p for p in PEERS if p.name in ('pm2', 'supervisord')];"
        "asyncio.run(c.measure(l.Lines('switch'), 1, 1.0))"
    )
    nowhere = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = run_python("-c", code, PATH=str(tmp_path), **nowhere)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "pm2 is left out: node and npm are not installed" in done.stderr
    assert "supervisord is left out: " in done.stderr


def test_rayclaw_says_why_it_cannot_run(tmp_path: Path) -> None:
    """No cargo in the path."""
    done = run_python("-m", "bench.rayclaw", "--keep", str(tmp_path / "kept"), PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (line,) = [json.loads(text) for text in done.stdout.splitlines()]
    assert (line["case"], line["metric"], line["reason"]) == ("all", "skipped", "there is no cargo")


def test_what_rayclaws_model_says_follows_its_skill() -> None:
    """It asks once, ends its turn with the job's number, and repeats what other people say."""
    code = (
        "from bench.rayclaw import answer; from regrow.testing.model_api import Asked\n"
        "def said(role, text): return answer(Asked('chat', {'messages': [{'role': role, 'content': text}]}, 0, {}))\n"
        "turn = said('user', '@_user_1 编译重启'); print(turn.calls[0].name, dict(turn.calls[0].input))\n"
        "print(said('tool', '{\"job\": 7, \"joined\": false}').text)\n"
        "print(said('user', 'm1 m2').text)\n"
    )
    done = run_python("-c", code)
    assert done.stdout.splitlines() == ["mcp_regrow_deploy {'when': 'idle'}", "好的，任务 7。", "re m1 re m2"]
