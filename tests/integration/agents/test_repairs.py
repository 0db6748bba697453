"""Real agents repair a real service: from the words in the chat through box, gateway and gate to the switch. Whatever
goes wrong with them is a clear answer in the chat."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from typing import Any

from regrow.testing.model_api import Call, ModelApi, Tokens, Turn, by_conversation
from regrow.testing.world import World

MODEL = "claude-sonnet-4-5"
REPRODUCE = "```sh\ngrep -q good src/answer.txt\n```"
BUG = f"fix this bug: the answer is wrong\n{REPRODUCE}"


def modelled(api: ModelApi, key_file: Path, **more: Any) -> dict[str, dict[str, Any]]:
    """Settings of a world with a model."""
    return {
        "model": {
            "kind": "anthropic",
            "models": [MODEL],
            "base_url": api.base_url,
            "key": f"file:{key_file}",
            **more,
        },
        f'model.prices."{MODEL}"': {"input": 3.0, "output": 15.0},
    }


def edit(old: str, new: str, path: str = "src/answer.txt") -> Call:
    """A change by a program, which every agent can start."""
    return Call("Bash", {"command": f"sed -i s/{old}/{new}/ {path}", "description": "change it"})


async def broken(make_world: Any, api: ModelApi, root: Path, **sections: Any) -> World:
    """A world whose service has the bug, with claude as its agent."""
    key = root / "key"
    key.write_text(api.key)
    settings = {"repair": {"agent": "claude"}, **modelled(api, key), **sections}
    world: World = await make_world(**settings)
    world.commit({"src/answer.txt": "bad\n", "src/title.txt": "old\n"}, "Break it")
    assert "✅" in await world.say("build and restart")
    return world


async def test_claude_repairs_and_goes_on_when_it_is_told_that_it_is_not_right(make_world: Any, tmp_path: Path) -> None:
    first = [
        Turn("I look at the answer.", [Call("Bash", {"command": "cat src/answer.txt", "description": "look"})]),
        Turn(calls=[edit("bad", "good")]),
        Turn("The answer was bad. I made it good."),
        Turn(calls=[edit("old", "new", "src/title.txt"), edit("bad", "good")]),
        Turn("Now the title is new as well."),
    ]
    async with ModelApi(by_conversation(first), key=secrets.token_hex(16)) as api:
        world = await broken(make_world, api, tmp_path)
        chat = world.new_chat()
        one = await world.asked(BUG, chat)
        await world.step(one, "approve", "waiting")
        log = await world.cli("job", str(one), "--log")
        for told in ("claude: thinking: I look at the answer.", "claude: running: cat src/answer.txt", "claude: cost:"):
            assert told in log.stdout, log.stdout
        two = await world.asked("not quite, also the title is old", chat)
        assert (await world.ended(one)).status == "cancelled"
        await world.step(two, "approve", "waiting")
        job = await world.job(two)
        assert job.approval is not None
        assert set(job.approval.files) == {"src/answer.txt", "src/title.txt"}
        last = str(api.asked[-1].body["messages"])
        assert "the answer is wrong" in last, "it did not go on with its session"
        assert "not quite, also the title is old" in last
        await world.press(two, "approve")
        text = (await world.said(two))[-1].text
        assert text.startswith("✅ Bug fixed and deployed!"), text
        assert job.result["agent"] == "claude"
        assert "USD" in job.result["cost"]


async def test_another_agent_is_named_in_the_chat(make_world: Any, tmp_path: Path, programs: Path) -> None:
    by_opencode = [Turn(calls=[Call("bash", {"command": "sed -i s/bad/good/ src/answer.txt", "description": "mend"})])]
    by_claude = [Turn("I find nothing.")]

    def script(asked: Any) -> Turn:
        turns = by_opencode if "bash" in asked.tools else by_claude
        return turns[asked.turns] if asked.turns < len(turns) else Turn("I put it right.")

    async with ModelApi(script, key=secrets.token_hex(16)) as api:
        agent = {"agent.opencode": {"driver": "acp", "command": [str(programs / "opencode"), "acp"]}}
        world = await broken(make_world, api, tmp_path, **agent)
        chat = world.new_chat()
        assert "Cause: nothing was changed" in await world.say(BUG, chat)
        number = await world.asked("let opencode fix it", chat)
        await world.step(number, "approve", "waiting")
        job = await world.job(number)
        assert job.result["agent"] == "opencode"
        await world.press(number, "approve")
        live, result = await world.said(number)
        assert "🤖 opencode" in live.text
        assert result.text.startswith("✅ Bug fixed and deployed!"), result.text
        doctor = await world.cli("doctor")
        assert re.search(r"agent claude +2\.", doctor.stdout), doctor.stdout
        assert re.search(r"agent opencode +OpenCode", doctor.stdout), doctor.stdout


NOISE = "head -c 10000000 /dev/zero | tr '\\\\0' x; printf '\\\\377\\\\376 end\\\\n'"


async def test_whatever_goes_wrong_with_an_agent_is_told_clearly(make_world: Any, tmp_path: Path) -> None:
    shell = {"description": "try"}
    cases: dict[str, tuple[list[Turn], str]] = {
        "not logged in": ([Turn(status=401, repeat=50)], "the model refuses the key"),
        "silent": ([Turn("")], "nothing was changed"),
        "budget": (
            [Turn(calls=[Call("Bash", {"command": "true", **shell})], tokens=Tokens(input=9_000_000), repeat=50)],
            "the money for this repair is used up",
        ),
        "endless": (
            [Turn("Once more.", [Call("Bash", {"command": "true", **shell})], repeat=500)],
            "went on and on without coming to an end",
        ),
        "killed": ([Turn(calls=[Call("Bash", {"command": "sleep 0.2; kill -9 -1", **shell})])], "was killed"),
        "provider down": ([Turn(status=503, repeat=50)], "the model cannot be used"),
    }
    agents = {
        "agent.claude": {"driver": "claude", "max_turns": 4},
        "agent.gone": {"driver": "acp", "command": ["/nowhere/agent", "acp"]},
        "agent.dumb": {"driver": "acp", "command": ["/usr/bin/yes"]},
        "agent.quiet": {"driver": "acp", "command": ["/bin/true"]},
        "agent.noisy": {"driver": "command", "command": ["/bin/sh", "-c", NOISE.replace("\\\\", "\\")]},
    }
    async with ModelApi(key=secrets.token_hex(16)) as api:
        world = await broken(make_world, api, tmp_path, repair={"agent": "claude", "timeout": "30s"}, **agents)
        before = await world.pid()
        for name, (turns, told) in cases.items():
            api.say(turns)
            text = await world.say(f"fix this bug: it is {name}\n{REPRODUCE}")
            assert told in text, (name, text)
            assert "never stopped" in text, (name, text)
        for agent, told in {
            "gone": "/nowhere/agent is not installed",
            "quiet": "the agent ended with exit code 0: it said nothing",
            "noisy": "nothing was changed",
            "dumb": "the agent was not ready in time",
        }.items():
            text = await world.say(f"let {agent} fix this bug: the answer is wrong\n{REPRODUCE}")
            assert told in text, (agent, text)
            assert len(text) < 3000, "the chat was flooded"
        # What is noise and no failure.
        api.say(
            [
                Turn(calls=[Call("Bash", {"command": NOISE.replace("\\\\", "\\"), **shell})]),
                Turn(calls=[edit("bad", "good")]),
            ]
        )
        number = await world.asked(BUG)
        await world.step(number, "approve", "waiting")
        await world.answer(f"cancel job {number}")
        assert await world.pid() == before
        assert sum(path.stat().st_size for path in world.directory.glob("jobs/*.log")) < 60_000_000


async def test_whatever_goes_wrong_with_a_program_is_told_clearly(make_world: Any, tmp_path: Path) -> None:
    """Agents without a model: programs that are away, loop, flood, die and speak nonsense; of each protocol."""
    programs = {
        "loop": "while :; do :; done",
        "flood": "yes $(head -c 1000 /dev/zero | tr '\\0' x)",
        "killed": "kill -9 $$",
        "silent": "exit 0",
        "wrong": "echo it is broken >&2; exit 3",
        "bytes": 'printf \'\\377\\376\\000{"event": 7}\\n{"event": "thinking", "text": "\\303"}\\n\'',
    }
    told = {
        "away": "/nowhere/agent is not installed; install it, or correct [agent.away]",
        "loop": "the agent was not ready in time",
        "flood": "the agent was not ready in time",
        "killed": "the agent was killed",
        "silent": "nothing was changed",
        "wrong": "the agent failed: the agent ended with exit code 3: it is broken",
        "bytes": "nothing was changed",
    }
    spoken = {"killed": "the agent was killed", "silent": "it said nothing", "bytes": "the agent"}
    agents = {f"agent.{n}": {"driver": "command", "command": ["/bin/sh", "-c", s]} for n, s in programs.items()}
    agents["agent.away"] = {"driver": "command", "command": ["/nowhere/agent"]}
    agents |= {f"agent.acp-{n}": {"driver": "acp", "command": ["/bin/sh", "-c", programs[n]]} for n in spoken}
    async with ModelApi(key=secrets.token_hex(16)) as api:
        key = tmp_path / "key"
        key.write_text(api.key)
        world: World = await make_world(repair={"agent": "loop", "timeout": "4s"}, **agents, **modelled(api, key))
        world.commit({"src/answer.txt": "bad\n"}, "Break it")
        assert "✅" in await world.say("build and restart")
        before = await world.pid()
        for name, words in (told | {f"acp-{name}": words for name, words in spoken.items()}).items():
            text = await world.say(f"let {name} fix this bug: the answer is wrong\n{REPRODUCE}")
            assert words in text, (name, text)
            assert "never stopped" in text, (name, text)
            assert len(text) < 3000, "the chat was flooded"
            text.encode()
        assert await world.pid() == before
        assert sum(path.stat().st_size for path in world.directory.glob("jobs/*.log")) < 60_000_000


async def test_no_secret_of_the_service_reaches_the_model_the_chat_the_log_or_a_commit(
    make_world: Any, tmp_path: Path
) -> None:
    canaries = {
        name: f"cnry{secrets.token_hex(14)}"
        for name in ("tracked", "untracked", "variable", "file", "key", "pem", "beside")
    }
    (tmp_path / "token").write_text(canaries["file"])
    write = f"echo good >src/answer.txt; echo {canaries['tracked'][::-1]} | rev >>src/answer.txt"
    attack = (
        "git show HEAD:.env; git show HEAD:config/server.pem; git log -p --all -- .env; git log -p --all -- lib; "
        "git cat-file --batch-all-objects --batch | grep -a cnry; "
        "grep -rsI cnry /home /run /etc /tmp --exclude-dir=.venv 2>/dev/null | head -50"
    )
    calls = [
        "cat .env .env.local config/server.pem",
        "env; cat /proc/*/environ | tr '\\0' '\\n'",
        f"cat {tmp_path}/token {tmp_path}/key {tmp_path}/world-1/.env {tmp_path}/world-1/checkout/.env",
        attack,
    ]
    turns = [
        Turn("See @.env and @config/server.pem", [Call("Bash", {"command": c, "description": "look"})]) for c in calls
    ]
    async with ModelApi(by_conversation(turns), key=canaries["key"]) as api:
        key = tmp_path / "key"
        key.write_text(api.key)
        world: World = await make_world(
            up=False,
            repair={"agent": "claude"},
            source={"repository": "checkout"},
            agent__poisoned={"driver": "command", "command": ["/bin/sh", "-c", write]},
            service__secrets={"API_KEY": "env:WORLD_API_KEY", "TOKEN": f"file:{tmp_path / 'token'}"},
            **modelled(api, key),
        )
        pem = f"-----BEGIN KEY-----\n{canaries['pem']}\n-----END KEY-----\n"
        world.checkout.commit(
            "Settings", {".env": f"A={canaries['tracked']}\n", "config/server.pem": pem, "src/answer.txt": "bad\n"}
        )
        # Committed under an innocent name, and removed again.
        world.checkout.commit("A key", {"lib/old.py": f"KEY = '{canaries['variable']}'\n"})
        world.checkout.commit("No key", {"lib/old.py": None})
        (world.checkout.path / ".env.local").write_text(f"B={canaries['untracked']}\n")
        (world.root / ".env").write_text(f"C={canaries['beside']}\n")
        await world.start_daemon(
            {"WORLD_API_KEY": canaries["variable"], **{f"X_{n.upper()}": v for n, v in canaries.items()}}
        )
        await world.settled()
        ask = f"fix this bug: see @.env @{tmp_path}/token /context\n{REPRODUCE}"
        text = await world.say(ask)
        # Past every agent and gateway: the gate sees it in the change.
        second = await world.say(f"let poisoned fix this bug: the answer is bad\n{REPRODUCE}")
        assert "the change did not pass the gate" in second, second
        await world.kill_daemon(15)
        found = {name: _holders(world, api, value) for name, value in canaries.items() if name != "key"}
        assert api.asked, "the model was never asked"
        assert found == {name: [] for name in found}, (found, text)
        assert not any(canaries["key"].encode() in path.read_bytes() for path in _told(world)), "the model's own key"
        sent = [one.body for one in api.received]
        assert not any(canaries["key"].encode() in body for body in sent), "the key was in a body"


def _told(world: World) -> list[Path]:
    """Everything that Regrow has written: logs, the store with its messages, transcripts, homes of agents."""
    skipped = {world.directory / "releases", world.directory / "workspaces"}
    return [p for p in world.state.rglob("*") if p.is_file() and not skipped & set(p.parents)] + [world.log]


def _holders(world: World, api: ModelApi, value: str) -> list[str]:
    found = [str(path.relative_to(world.root)) for path in _told(world) if value.encode() in path.read_bytes()]
    found += ["the model API"] if api.holds(value) else []
    said = world.checkout.git("log", "--all", "-p", "--", "src")
    return found + (["a commit"] if value in said else [])
