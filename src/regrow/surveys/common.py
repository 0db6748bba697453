"""What is looked for in every language: names, sockets, ports, health, data, variables, and what the box must see."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from regrow.surveys.base import GO, NODE, PYTHON, RUST, Machine, Survey, Tree, Value, is_aside, plain_name
from regrow.surveys.lines import PORT, exposed, image_command, procfile, words_of

_SUFFIXES = {PYTHON: (".py",), NODE: (".js", ".mjs", ".cjs", ".ts", ".mts"), GO: (".go",), RUST: (".rs",)}
_ADDRESS = rf"(?P<host>(?:\d{{1,3}}\.){{3}}\d{{1,3}}|localhost|\[[0-9a-fA-F:]*\])?:{PORT}"
_PORTS = {
    PYTHON: (
        r"(?:HTTPServer|TCPServer|create_server|\.bind)\(\s*\(\s*[\"'](?P<host>[\d.]*)[\"']\s*,\s*" + PORT,
        rf"[\"']PORT[\"']\s*,\s*[\"']?{PORT}",
        rf"\b(?:run|serve|run_app|run_server|TCPSite)\([^()]*?\bport\s*=\s*{PORT}",
        rf"[\"']{_ADDRESS}[\"']",
        r"\(\s*[\"'](?P<host>(?:\d{1,3}\.){3}\d{1,3}|)[\"']\s*,\s*" + PORT + r"\s*\)",
        rf"^(?:PORT|DEFAULT_PORT)\s*(?::\s*int\s*)?=\s*{PORT}",
    ),
    NODE: (
        rf"\bPORT\s*(?:\|\||\?\?)\s*[\"']?{PORT}",
        rf"\.listen\(\s*{PORT}",
        rf"^\s*(?:const|let|var)\s+(?:port|PORT)\s*=\s*{PORT}",
        rf"[\"'`]{_ADDRESS}[\"'`]",
    ),
    GO: (rf"\"{_ADDRESS}\"", rf"\b[pP]ort\w*\s*(?::?=|,)\s*\"{PORT}\"", rf"\b[pP]ort\w*\"?\s*(?::?=|,)\s*{PORT}\b"),
    RUST: (
        rf"\"{_ADDRESS}\"",
        rf"\(\[\s*(?:127|0)\s*,\s*0\s*,\s*0\s*,\s*[01]\s*\]\s*,\s*{PORT}\s*\)",
        rf"\bPORT\s*:\s*u16\s*=\s*{PORT}",
    ),
}
# Where other services listen by custom: an address of one of these in the source is one that is called.
_OTHERS = frozenset(
    (
        *("22", "25", "53", "80", "110", "143", "443", "465", "587", "993", "1433", "2379", "3306", "4222", "4317"),
        *("5432", "5672", "6379", "9092", "9200", "11211", "27017"),
    )
)
_TAKES_SOCKET = re.compile(
    r"LISTEN_FDS|listenfd::|ListenFd\b|from_raw_fd\(\s*3\s*\)|\{\s*fd\s*:\s*3\b|activation\.Listeners|fileno\s*=\s*3\b"
)
_HEALTH = re.compile(
    r"""["'`](?:GET )?(/(?:-/|_|api/|v\d/)?"""
    r"""(?:health(?:z|y|check|-check|/live|/ready)?|livez|readyz|ready|alive|ping|up))/?["'`]"""
)
_DATABASE = re.compile(
    r"""["'`](?:(?:file|sqlite3?):(?:/{2,3})?)?(/?[A-Za-z0-9][\w./-]*\.(?:db|sqlite3?))(?:\?[^"'`]*)?["'`]"""
)
_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|DSN|_URL$|_URI$", re.IGNORECASE)
_VARIABLE = re.compile(r"^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=", re.MULTILINE)
_READ = re.compile(
    r"""(?:os\.environ(?:\.get)?\s*[\[(]\s*|\bgetenv\(\s*|process\.env\.|os\.Getenv\(\s*|env::var\w*\(\s*)["']?([A-Z][A-Z0-9_]+)"""
)
_MOST_VARIABLES = 30
_VERSION_FILE = re.compile(r"""["'`](?:\./)?VERSION["'`]""")
WRITE_VERSION = '; echo "$REGROW_VERSION" >"$0/VERSION"'


def finish(tree: Tree, found: Survey, folder: str, branch: str, machine: Machine) -> None:
    """Add what no language has of its own."""
    _name(found, folder)
    if not found.has("service.command"):
        _started_by_a_file(tree, found)
    found.ask("service.command", ("./your-program",), "ask_command")
    _signals(tree, found)
    _address(tree, found)
    _health(tree, found)
    _variables(tree, found)
    found.add("source.repository", ".", "repository")
    if branch:
        found.add("source.branch", branch, "branch")
    else:
        found.ask("source.branch", "main", "ask_branch")
    _data(tree, found)
    found.ask("test.command", ("make", "test"), "ask_test")
    _make(tree, found)
    found.ask("repair.allowed", ("src/**",), "ask_allowed")
    _readable(found, machine)


def suffixes(language: str) -> tuple[str, ...]:
    """How source files of a language end; all that are known when it is none."""
    return _SUFFIXES.get(language) or tuple(one for some in _SUFFIXES.values() for one in some)


def version_file(tree: Tree, found: Survey) -> str:
    """Where a program at the root reads its version from a file VERSION that a build is to write; "" if none does."""
    if "VERSION" in tree.sizes:
        return ""
    at = next((at for at, _ in tree.find(_VERSION_FILE, *suffixes(found.language)) if "/" not in at), "")
    if at:
        found.facts["told"] = at
    return at


def _name(found: Survey, folder: str) -> None:
    declared = plain_name(found.facts.get("declared", ""))
    if declared:
        found.add("service.name", declared, "name_declared", file=found.shown_by)
    elif name := plain_name(folder):
        found.add("service.name", name, "name_folder")
    else:
        found.add("service.name", "service", "name_none")
    found.facts["name"] = next(str(one.value) for one in found.settings if one.name == "service.name")


def _started_by_a_file(tree: Tree, found: Survey) -> None:
    """Lines by which others start it: told as they are, because nobody has shown that they work here."""
    for path, text in sorted(tree.texts.items()):
        if path.endswith(".service") and (started := re.search(r"^ExecStart=[-@:+!]*(.+)$", text, re.MULTILINE)):
            found.ask("service.command", words_of(started[1]) or (started[1],), "ask_command_unit", file=path)
    for file, line in (("Procfile", procfile(tree)), ("Dockerfile", image_command(tree))):
        if line:
            shown = re.sub(r"\b([A-Za-z_][A-Za-z0-9_]*)=\S+", r"\1=...", line)  # a value may be a secret
            words = words_of(shown) or ("sh", "-c", f"exec {shown}")
            found.ask("service.command", words, "ask_command_file", file=file)


def _signals(tree: Tree, found: Survey) -> None:
    """What the program says and hears, by the words that only a program which does so has in it."""
    ends = suffixes(found.language)
    if at := tree.find(re.compile(r"NOTIFY_SOCKET|sd_notify|SdNotify|daemon\.SdNotify"), *ends):
        found.add("service.ready", "notify", "ready_notify", at=at[0][0])
    if at := tree.find(re.compile(r"X_STATE"), *ends):
        found.add("service.handover", "overlap", "overlap", at=at[0][0])
        found.add("service.standby", "running", "standby_overlap")
    elif at := tree.find(re.compile(r"REGROW_START"), *ends):
        found.add("service.standby", "paused", "standby_paused", at=at[0][0])
    named = tree.find(re.compile(r"LISTEN_FDNAMES"), *ends)
    if named and (at := tree.find(re.compile(r"""["'`]probe["'`]"""), *ends)):
        found.add("service.probe_socket", True, "probe_socket", at=at[0][0])


def _address(tree: Tree, found: Survey) -> None:
    """Where it listens, and who holds the socket."""
    takes = found.facts.get("takes_socket") or next(
        (at for at, _ in tree.find(_TAKES_SOCKET, *suffixes(found.language))), ""
    )
    host, port, at = _port(tree, found)
    if port:
        found.facts |= {"port": port, "host": host or "127.0.0.1", "address": f"{host or '127.0.0.1'}:{port}"}
    if found.has("service.handover"):
        return  # a connection of its own to somewhere: nothing is handed over
    example = f"{host or '127.0.0.1'}:{port or 8080}"
    if takes and port and found.facts.get("port_default"):
        found.add("service.listen.http", example, "listen_default", server=at)
    elif takes and port:
        found.add("service.listen.http", example, "listen" if host else "listen_here", at=takes, port_at=at)
    elif takes:
        found.ask("service.listen.http", example, "ask_listen", at=takes)
        # Without a socket these two mean something else.
        for one in [one for one in found.settings if one.name in ("service.standby", "service.probe_socket")]:
            found.settings[found.settings.index(one)] = replace(one, asked=True)
    elif port:
        found.add("service.handover", "exclusive", "exclusive_port", at=at, port=port)
        found.ask("service.trap_bind", True, "ask_trap", address=example)
    elif candidates := found.facts.get("ports", ""):
        found.add("service.handover", "exclusive", "exclusive")
        found.ask("service.listen.http", example, "ask_ports", ports=candidates)
    else:
        found.add("service.handover", "exclusive", "exclusive")
        found.ask("service.listen.http", example, "ask_port")


def _port(tree: Tree, found: Survey) -> tuple[str, str, str]:
    """Host, port and where they are named; "" where nothing does, or different places say different things."""
    if port := found.facts.get("port", ""):
        return found.facts.get("host", ""), port, found.facts.get("port_at", "")
    if port := exposed(tree):
        return "", port, "Dockerfile"
    seen: dict[str, tuple[str, str]] = {}
    for language, patterns in _PORTS.items():
        if found.language not in ("", language):
            continue
        for pattern in patterns:
            for at, match in tree.find(re.compile(pattern, re.MULTILINE), *_SUFFIXES[language]):
                host, port = match.groupdict().get("host") or "", match["port"]
                if port not in _OTHERS and 0 < int(port) < 65536:
                    host = "127.0.0.1" if host == "localhost" else host
                    known = seen.get(port)
                    if known is None or (host and not known[0]):
                        seen[port] = (host, at)
    # Of a repository with several programs, what the one that is started says counts before the rest.
    folder = found.facts.get("folder", "")
    seen = {port: one for port, one in seen.items() if folder and one[1].startswith(f"{folder}/")} or seen
    if len(seen) == 1:
        [(port, (host, at))] = seen.items()
        return host, port, at
    found.facts["ports"] = ", ".join(f"{port} ({at})" for port, (_, at) in list(seen.items())[:5])
    return "", "", ""


def _health(tree: Tree, found: Survey) -> None:
    paths: dict[str, str] = {}
    for at, match in tree.find(_HEALTH, *suffixes(found.language)):
        paths.setdefault(match[1], at)
    image = tree.texts.get("Dockerfile", "")
    if checked := re.search(r"HEALTHCHECK[^\n]*(?:\\\n[^\n]*)*?https?://[^/\s]+(/[\w./-]*)", image):
        paths = {checked[1]: "Dockerfile"} | paths
    best = min(paths, key=lambda path: ("health" not in path, len(path)), default="")
    asked_alone = found.has("service.probe_socket") and found.has("service.listen.http")
    address = found.facts.get("address", "")
    if address.startswith(("0.0.0.0:", "[::]:")):
        address = f"127.0.0.1:{address.rpartition(':')[2]}"
    found.facts["probe"] = f"http://{address}{best}" if address and best else ""
    if best and address:
        found.facts["health"] = best
        # A path alone is asked at the probe's own socket; without one, at the address that all releases share.
        found.add("probe.health.target", best if asked_alone else found.facts["probe"], "health", at=paths[best])
        if asked_alone or not found.has("service.listen.http"):
            _version(tree, found)  # at an address that is shared, the other release may be who answers
    elif best:
        found.ask("probe.health.target", best, "ask_health_address", at=paths[best])
    elif found.has("service.handover") and any(one.value == "overlap" for one in found.settings):
        pass  # it says itself where it stands
    elif address:
        found.ask("probe.health.target", "/health" if asked_alone else f"http://{address}/health", "ask_health")


def _version(tree: Tree, found: Survey) -> None:
    told = found.facts.get("told") or next(
        (at for at, _ in tree.find(re.compile(r"REGROW_VERSION"), *suffixes(found.language))), ""
    )
    key = tree.find(re.compile(r"""\bversion\\?["']?\s*[:=]"""), *suffixes(found.language))
    if told and key:
        found.add("probe.health.version", "version", "version_key", at=key[0][0], told_at=told)
    found.ask("probe.health.version", "version", "ask_version")


def _variables(tree: Tree, found: Survey) -> None:
    """Names out of files of variables, and secrets that the source reads; no value is looked at, let alone shown."""
    named: dict[str, str] = {}
    for path in sorted(tree.texts, key=lambda path: (path.count("/"), path)):
        if re.search(r"(^|/)\.(flask)?env[\w.-]*$", path) and path.count("/") < 2:
            for match in _VARIABLE.finditer(tree.texts[path]):
                named.setdefault(match[1], path)
    for at, match in tree.find(_READ, *suffixes(found.language)):
        if _SECRET.search(match[1]) and not match[1].startswith(("REGROW_", "LISTEN_", "NOTIFY_")):
            named.setdefault(match[1], at)
    for name, at in list(named.items())[:_MOST_VARIABLES]:
        if _SECRET.search(name):
            found.ask(f"service.secrets.{name}", f"env:{name}", "ask_secret", at=at)
        elif name != "PORT":
            found.ask(f"service.env.{name}", "", "ask_variable", at=at)


def _data(tree: Tree, found: Survey) -> None:
    """Databases that the source names. Only below REGROW_STATE are they the service's own from release to release."""
    ends = suffixes(found.language)
    names: dict[str, str] = {}
    for at, match in tree.find(_DATABASE, *ends):
        names.setdefault(match[1], at)
    below = tree.find(re.compile(r"REGROW_STATE"), *ends)
    if names:
        found.facts["database"] = PurePosixPath(next(iter(names))).name
    if names and below:
        files = tuple(PurePosixPath(name).name for name in names)
        found.add("state.sqlite", files, "sqlite", at=next(iter(names.values())), state_at=below[0][0])
    elif names and next(iter(names)).startswith("/"):
        name, at = next(iter(names.items()))
        found.ask("state.directory", str(PurePosixPath(name).parent), "ask_directory", at=at, name=name)
        found.ask("state.sqlite", (PurePosixPath(name).name,), "ask_directory_sqlite")
    elif names:
        name, at = next(iter(names.items()))
        found.ask("state.sqlite", (PurePosixPath(name).name,), "ask_sqlite", at=at, name=name)
    tracked = [path for path in tree.sizes if path.endswith((".db", ".sqlite", ".sqlite3")) and not is_aside(path)]
    if tracked and not names:
        found.ask("state.sqlite", (PurePosixPath(tracked[0]).name,), "ask_sqlite_file", file=tracked[0])


def _make(tree: Tree, found: Survey) -> None:
    """Targets of a Makefile, for what no language has shown."""
    for name in ("Makefile", "makefile", "GNUmakefile"):
        text = tree.texts.get(name, "")
        for target in ("test", "check"):
            if re.search(rf"^{target}\s*:(?!=)", text, re.MULTILINE) and not found.has("test.command"):
                found.settings = [one for one in found.settings if one.name != "test.command"]
                found.ask("test.command", ("make", target), "ask_test_make", file=name, target=target)


def _readable(found: Survey, machine: Machine) -> None:
    """What a box must see that is not below /usr/bin or /usr/local/bin."""
    words = [word for one in found.settings if not one.asked for word in _flat(one.value)]
    needed: list[str] = ["{python}"] if any("{python}" in word for word in words) else []
    tools = {PYTHON: (), NODE: ("node",), GO: ("go",), RUST: ("cargo",), "": ()}[found.language]
    for tool in tools:
        if tool in machine.toolchains:
            needed.append(machine.toolchains[tool])
            found.facts["toolchain"] = machine.toolchains[tool]
            found.add("sandbox.readable", tuple(needed), "readable_tool", tool=tool, path=machine.toolchains[tool])
    if needed:
        found.add("sandbox.readable", tuple(needed), "readable_python")


def _flat(value: Value) -> Sequence[str]:
    return value if isinstance(value, tuple) else (str(value),)
