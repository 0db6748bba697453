"""How the parts hang together: who may import whom, and that importing does nothing."""

from __future__ import annotations

import ast
import graphlib
import string
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

import regrow

SRC = Path(regrow.__file__).parent
CHECKOUT = SRC.parent.parent

LAYERS = {
    "shapes": "errors api.types",
    "machine": "settings clock process files sqlite_files pool git store databases backups secret redact places config "
    "quiet permissions intents config_file availability events catalogue catalogues versions patterns phrases "
    "agent_phrases tail decisive http_server",
    "nouns": "migrations probes probe_trial releases workspaces snapshots risks gate test_results verification "
    "attempts rights rates freezes wording commands clauses understanding approvals inbox outbox forwarding canaries "
    "incidents fingerprints log_errors log_watch "
    "audit people notices idle space care rehearsals restores secret_files agents models sandboxes services channels "
    "installation confinement boxes surveys templates drafts "
    "settable setting_changes setting_phrases",
    "jobs": "jobs",
    "talk": "asking targets timetable cautions heal story views admissions lookout requests presses conversations "
    "decision_links interpreter doctor traces",
    "surfaces": "api web succession",
    "daemon": "daemon",
}
"""From the bottom to the top: a module imports from its own layer and from those below. A new one is put in its place
here. `daemon` is above the API and the console, because it is where all parts are made."""

FEISHU = " ".join(f"channels.feishu.{one}" for one in ("api", "checks", "greeting", "messages", "refusals", "section"))

CLIENTS = {
    # What a person starts knows of the daemon only what crosses the API; an installation comes before any daemon.
    "cli": "cli api.client api.mcp api.types backups catalogue errors places files versions installation confinement "
    "drafts surveys templates",
    # Setting up a channel comes before there is a daemon to ask.
    "cli.feishu_meeting": f"cli api.client catalogue errors config_file secret {FEISHU}",
    "cli.feishu_setup": f"cli errors places files config config_file secret {FEISHU}",
    "web": "web api.types catalogue errors",
    "api.client": "api.types errors",
    "api.mcp": "api.client api.types errors pool",
    # Its own process, in which nothing of the daemon exists.
    "supervisor": "supervisor",
}


@cache
def modules() -> dict[str, Path]:
    """Every module of Regrow by its name below `regrow`."""
    return {name(path): path for path in sorted(SRC.rglob("*.py")) if path != SRC / "__init__.py"}


def name(path: Path) -> str:
    return ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__")


def within(module: str, names: str) -> bool:
    """Whether a module is one of these, or inside one of these."""
    return any(module == one or module.startswith(f"{one}.") for one in names.split())


def layer(module: str) -> int | None:
    """The number of a module's layer; the longest name counts, so that `api.types` is not `api`."""
    found = [(len(one), at) for at, names in enumerate(LAYERS.values()) for one in names.split() if within(module, one)]
    return max(found)[1] if found else None


@cache
def imports(module: str, *, types: bool = True) -> frozenset[str]:
    """The modules of Regrow that a module imports, at its head or later; with `types`, also for annotations alone."""
    path, found = modules()[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text("utf-8"))
    if not types:
        tree.body = [
            node for node in tree.body if not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test))
        ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = ["regrow", *(part for part in package.split(".") if part)]
                base = ".".join([*parts[: len(parts) - node.level + 1], *([base] if base else [])])
            # `from package import module` needs the module; the package's own file is mostly empty.
            inside = {f"{base}.{alias.name}" for alias in node.names}
            found |= {one if one.removeprefix("regrow.") in modules() else base for one in inside}
    known = {one.removeprefix("regrow.") for one in found if one.startswith("regrow.")}
    return frozenset(one for one in known if one in modules() and one != module)


def test_every_module_has_its_place() -> None:
    elsewhere = "cli supervisor testing"
    assert [one for one in modules() if layer(one) is None and not within(one, elsewhere)] == []


def test_imports_point_one_way() -> None:
    wrong = [
        f"{module} imports {other}"
        for module in modules()
        for other in imports(module)
        if (mine := layer(module)) is not None
        and ((theirs := layer(other)) is None or theirs > mine)
        # The supervisor's process is started by the name of its file; nothing of it runs here.
        and (module, other) != ("services.units", "supervisor")
    ]
    assert wrong == []


def test_no_module_imports_itself_by_a_detour() -> None:
    # A package's own file names what is in it, and what is in it does not import it.
    graphlib.TopologicalSorter({one: imports(one, types=False) for one in modules()}).prepare()


@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_knows_only_the_api(client: str) -> None:
    wrong = [
        f"{module} imports {other}"
        for module in modules()
        if within(module, client) and (module == client or module not in CLIENTS)
        for other in imports(module)
        if not within(other, CLIENTS[client])
    ]
    assert wrong == []


def test_the_supervisor_needs_nothing_but_the_standard_library() -> None:
    wrong = []
    for path in (SRC / "supervisor").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            wrong += [f"{path.name} imports {one}" for one in names if one.split(".")[0] not in sys.stdlib_module_names]
    assert wrong == []


def test_a_module_only_defines() -> None:
    """At a module's top: imports, definitions and names; nothing is called for its effect."""
    wrong = []
    for module, path in modules().items():
        if path.name == "__main__.py" or within(module, "migrations"):
            continue  # these are run, not imported
        for node in ast.parse(path.read_text("utf-8")).body:
            effect = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
            if effect or isinstance(node, ast.With | ast.Try | ast.While | ast.Raise | ast.Delete):
                wrong.append(f"{module}:{node.lineno}: {ast.unparse(node)[:60]}")
    assert wrong == [allowed for allowed in wrong if allowed.startswith("cli.main:")], (
        "only Typer's table may fill itself"
    )


WATCHED_IMPORT = """
import importlib, pathlib, sys, threading
source, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
EFFECTS = ("socket.", "subprocess.", "sqlite3.", "os.fork", "os.posix_spawn", "os.mkdir", "os.remove", "tempfile.")

def is_python(file):
    return file.startswith("<frozen") or (file.startswith(sys.base_prefix) and "site-packages" not in file)

def watch(event, arguments):
    writes = event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
    if not writes and not event.startswith(EFFECTS):
        return
    frame = sys._getframe(1)
    while frame and is_python(frame.f_code.co_filename):
        frame = frame.f_back
    # What packages of others do when they are imported is not ours to judge here.
    if frame and source in pathlib.Path(frame.f_code.co_filename).parents:
        print(f"{frame.f_code.co_filename}:{frame.f_lineno}: {event} {arguments[:2]}")

sys.addaudithook(watch)
for name in names:
    importlib.import_module(name)
print(*(f"a thread: {thread.name}" for thread in threading.enumerate()[1:]), sep="\\n")
"""


def test_importing_does_nothing() -> None:
    names = [
        f"regrow.{one}" for one, path in modules().items() if path.name != "__main__.py" and one != "migrations.env"
    ]
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCHED_IMPORT, str(SRC), *names],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("", "", 0)


def flat(table: dict[str, object], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, value in table.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: str(value)}
    return found


def test_every_catalogue_exists_in_both_languages_with_the_same_fields() -> None:
    files = {path.name: path for path in (SRC / "catalogues").glob("*.toml")}
    chinese = {file for file in files if file.split(".")[-2] == "zh"}
    pairs = {file: file.replace("zh.toml", "en.toml") for file in chinese}
    assert set(pairs) | set(pairs.values()) == set(files)
    assert {"zh.toml", "story.zh.toml", "cli.zh.toml", "web.zh.toml"} <= set(pairs)
    for pair in pairs.items():
        zh, en = (flat(tomllib.loads(files[file].read_text("utf-8"))) for file in pair)
        assert zh.keys() == en.keys(), pair
        assert {key for key in zh if fields(zh[key]) != fields(en[key])} == set(), pair


def fields(text: str) -> set[str]:
    return {one for _, one, _, _ in string.Formatter().parse(text) if one is not None}


def test_what_runs_regrow_is_pinned_the_same_for_developing_it() -> None:
    pins = [set((CHECKOUT / "requirements" / f"{kind}.txt").read_text().split("\n")) for kind in ("runtime", "dev")]
    runtime, development = ({line for line in lines if "==" in line} for lines in pins)
    assert runtime
    assert runtime <= development
    assert not [line for line in pins[0] | pins[1] if "://" in line or line.startswith(("/", "-"))]
