"""Node: the start script of package.json, and whether packages have to be fetched for it."""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Any

from regrow.surveys.base import Survey, Tree
from regrow.surveys.common import WRITE_VERSION, version_file
from regrow.surveys.lines import image_command, procfile, shell, words_of

_ENTRIES = ("server.js", "app.js", "index.js", "main.js", "bot.js", "src/server.js", "src/index.js", "src/app.js")
_ENDS = (".js", ".mjs", ".cjs", ".ts", ".mts")
_NO_TEST = "no test specified"


def look(tree: Tree, found: Survey) -> None:
    """Find the start command, the build and the tests."""
    values = _package(tree)
    found.facts["declared"] = str(values.get("name", "")).rpartition("/")[2]
    scripts = {str(key): value for key, value in _table(values, "scripts").items() if isinstance(value, str)}
    needs = bool(_table(values, "dependencies"))
    _start(tree, found, values, scripts)
    _build(tree, found, scripts, needs)
    _test(tree, found, scripts, needs or bool(_table(values, "devDependencies")))
    folders = sorted({path.split("/", 1)[0] for path, _ in tree.sources(*_ENDS) if "/" in path} - {"public", "scripts"})
    single = sorted(f"/{path}" for path, _ in tree.sources(*_ENDS) if "/" not in path and ".config." not in path)
    allowed = (*(f"{folder}/**" for folder in folders if folder.isprintable()), *single)
    if allowed:
        found.add("repair.allowed", allowed, "allowed_sources")


def _start(tree: Tree, found: Survey, values: dict[str, Any], scripts: dict[str, str]) -> None:
    lines = (
        ("Procfile", procfile(tree)),
        ("package.json", scripts.get("start", "")),
        ("Dockerfile", image_command(tree)),
    )
    for file, line in lines:
        words = words_of(line)
        if not words or words[0] in ("npm", "yarn", "pnpm"):
            continue
        if PurePosixPath(words[0]).name == "node":
            words = ("node", *words[1:])
        elif "/" not in words[0]:
            words = (f"{{release}}/node_modules/.bin/{words[0]}", *words[1:])
        else:
            continue
        found.add("service.command", words, "command_file", file=file, line=line)
        _main(found, words, tree)
        return
    entry = str(values.get("main", ""))
    for name in (entry.removeprefix("./"), *_ENTRIES):
        if name in tree.texts and re.search(r"\.listen\(|createServer\(|\bDeno\.serve|\.login\(", tree.texts[name]):
            found.add("service.command", ("node", name), "node_entry", file=name)
            found.facts["main"] = name
            return
    if scripts.get("start"):
        found.ask("service.command", ("npm", "start"), "ask_command_script", line=scripts["start"])


def _main(found: Survey, words: tuple[str, ...], tree: Tree) -> None:
    for word in words[1:]:
        for name in (word, f"{word}.js", f"{word}/index.js"):
            if name.removeprefix("./") in tree.sizes:
                found.facts["main"] = name.removeprefix("./")
                return


def _build(tree: Tree, found: Survey, scripts: dict[str, str], needs: bool) -> None:
    compiled = "build" in scripts and not found.facts.get("main")
    read_at = version_file(tree, found)
    if not needs and not compiled and read_at:
        found.add("build.command", shell(f'cp -R . "$0"{WRITE_VERSION}', "{out}"), "build_version", at=read_at)
        return
    if not needs and not compiled:
        found.add("build.command", (), "build_none_packages", file="package.json")
        return
    if "package-lock.json" not in tree.sizes:
        manager = next(
            (one for one in ("yarn.lock", "pnpm-lock.yaml", "bun.lock", "bun.lockb") if one in tree.sizes), ""
        )
        lines = 'cp -R . "$0"; cd "$0"; npm install'
        found.ask("build.command", shell(lines, "{out}"), "node_build_lock", file=manager or "package.json")
        return
    lines = 'cp -R . "$0"; cd "$0"; npm_config_cache=$REGROW_CACHE/npm npm ci --no-audit --no-fund'
    if compiled:
        lines += "; npm run build; npm prune --omit=dev"
    else:
        lines += " --omit=dev"
    lines += WRITE_VERSION if read_at else ""
    found.add(
        "build.command", shell(lines, "{out}"), "node_build_run" if compiled else "node_build", file="package-lock.json"
    )
    found.ask("build.egress", ("index.example.org",), "node_egress")


def _test(tree: Tree, found: Survey, scripts: dict[str, str], needs: bool) -> None:
    line = scripts.get("test", "")
    if not line or _NO_TEST in line:
        return
    words = words_of(line)
    if words and words[:2] == ("node", "--test"):
        if not any("--test-reporter" in word for word in words):
            words = (*words[:2], "--test-reporter=tap", *words[2:])
        found.add("test.command", words, "node_test", file="package.json")
    elif needs:
        found.ask("test.command", ("npm", "test"), "ask_test_packages", line=line)
    else:
        found.add("test.command", ("npm", "test"), "test_script", file="package.json", line=line)
    beside = [
        path
        for path in tree.sizes
        if re.search(r"\.(test|spec)\.\w+$", path) and not re.match(r"(tests?|spec|__tests__)/", path)
    ]
    if beside:
        end = re.search(r"\.(?:test|spec)\.\w+$", beside[0])
        found.add("repair.tests", (f"**/*{end[0] if end else '.test.js'}",), "tests_beside", file=beside[0])


def _package(tree: Tree) -> dict[str, Any]:
    try:
        values = json.loads(tree.texts.get("package.json", "{}"))
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def _table(values: dict[str, Any], name: str) -> dict[str, Any]:
    one = values.get(name)
    return one if isinstance(one, dict) else {}
