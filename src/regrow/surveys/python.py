"""Python: the program that listens, the packages it needs, and the tests by their own library."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import PurePosixPath
from typing import Any

from regrow.surveys.base import Survey, Tree
from regrow.surveys.common import WRITE_VERSION, version_file
from regrow.surveys.lines import image_command, procfile, shell, words_of

_REQUIREMENT = re.compile(r"^\s*([A-Za-z0-9][\w.-]*)", re.MULTILINE)
_APP = re.compile(r"^(\w+)\s*(?::[^=\n]+)?=\s*(FastAPI|Starlette|Quart|Litestar|Flask|Sanic|Bottle)\(", re.MULTILINE)
_ASGI = frozenset({"FastAPI", "Starlette", "Quart", "Litestar"})
_MAIN = re.compile(r"""^if\s+__name__\s*==\s*["']__main__["']""", re.MULTILINE)
_SERVES = re.compile(
    r"serve_forever|HTTPServer|\b(?:app|bot|application|server|client)\.run\(|asyncio\.run\(|uvicorn\.run|run_polling"
    r"|web\.run_app|create_server|start_polling"
)
_SERVERS = {"gunicorn": "gunicorn", "uvicorn": "uvicorn", "hypercorn": "hypercorn", "daphne": "daphne"}
_SERVERS |= {"waitress-serve": "waitress", "flask": "flask", "celery": "celery", "granian": "granian"}
_SPEAKS = re.compile(r"LISTEN_FDS|NOTIFY_SOCKET|serve_forever|HTTPServer|uvicorn\.")
_VENV = "{release}/venv/bin/python"


def look(tree: Tree, found: Survey) -> None:
    """Find what is started, with which packages, and how it is tested."""
    project = _project(tree)
    found.facts["declared"] = str(project.get("name", ""))
    packages = _packages(tree, project)
    interpreter = _VENV if packages else "{python}"
    _start(tree, found, project, packages, interpreter)
    _build(tree, found, packages)
    _test(tree, found, packages)
    folders = sorted(
        {path.split("/", 1)[0] for path, _ in tree.sources(".py") if "/" in path} - {"migrations", "scripts"}
    )
    single = [f"/{path}" for path, _ in tree.sources(".py") if "/" not in path and path not in _ASIDE]
    allowed = (*(f"{folder}/**/*.py" for folder in folders if folder.isprintable()), *single)
    if allowed:
        found.add("repair.allowed", allowed, "allowed_sources")


_ASIDE = frozenset({"setup.py", "conftest.py", "tests.py", "build.py", "noxfile.py", "fabfile.py", "tasks.py"})


def _start(tree: Tree, found: Survey, project: dict[str, Any], packages: dict[str, str], interpreter: str) -> None:
    for file, line in (("Procfile", procfile(tree)), ("Dockerfile", image_command(tree))):
        if _by_line(found, file, line, interpreter, packages):
            return
    if "manage.py" in tree.texts:
        project_at = re.search(r"""DJANGO_SETTINGS_MODULE["']\s*,\s*["'](\w+)(?:\.\w+)*["']""", tree.texts["manage.py"])
        if project_at and "gunicorn" in packages:
            _gunicorn(found, interpreter, f"{project_at[1]}.wsgi", "django", "manage.py")
        else:
            name = f"{project_at[1] if project_at else 'project'}.wsgi"
            found.ask("service.command", (interpreter, "-m", "gunicorn", name), "django_server")
        return
    apps = tree.find(_APP, ".py")
    if len({at.split(":")[0] for at, _ in apps}) == 1 and _app(found, apps[0], packages, interpreter):
        return
    scripts = project.get("scripts")
    mains = [path for path in tree.named("__main__.py") if path.count("/") in (1, 2) and not path.startswith("tests/")]
    mains = _likeliest(tree, found, mains)
    if len(mains) == 1:
        folder = str(PurePosixPath(mains[0]).parent)
        module = folder.removeprefix("src/").replace("/", ".")
        words = re.search(r"add_parser\(\s*[\"'](serve|run|start)[\"']", "".join(
            text for path, text in tree.texts.items() if path.startswith(f"{folder}/")))  # fmt: skip
        command = (interpreter, "-m", module, *((words[1],) if words else ()))
        found.facts |= {"module": module, "folder": folder}
        found.add("service.command", command, "python_word" if words else "python_main", file=mains[0])
        if folder.startswith("src/") and not packages:
            found.add("service.env.PYTHONPATH", "src", "python_src")
        return
    single = [
        path for path, text in tree.sources(".py") if "/" not in path and _MAIN.search(text) and _SERVES.search(text)
    ]
    if len(single) == 1:
        found.facts["main"] = single[0]
        found.add("service.command", (interpreter, single[0]), "python_script", file=single[0])
    elif mains or single:
        example = ("-m", str(PurePosixPath(mains[0]).parent)) if mains else (single[0],)
        found.ask("service.command", (interpreter, *example), "python_many", files=", ".join([*mains, *single]))
    elif isinstance(scripts, dict) and len(scripts) == 1:
        [(name, where)] = scripts.items()
        module, _, function = str(where).partition(":")
        code = f"import sys; from {module} import {function.split('.')[0]} as main; sys.exit(main())"
        if re.fullmatch(r"[\w.]+:\w+", str(where)):
            found.add("service.command", (interpreter, "-c", code), "python_scripts", name=str(name))


def _likeliest(tree: Tree, found: Survey, mains: list[str]) -> list[str]:
    """Of several packages that can be run, the one with the project's name, or that speaks as a service does."""
    named = [path for path in mains if PurePosixPath(path).parent.name == found.facts["declared"].replace("-", "_")]
    speaks = {at.split(":")[0].rpartition("/")[0] for at, _ in tree.find(_SPEAKS, ".py")}
    speaking = [path for path in mains if path.rpartition("/")[0] in speaks]
    return next((some for some in (mains, named, speaking) if len(some) == 1), mains)


def _by_line(found: Survey, file: str, line: str, interpreter: str, packages: dict[str, str]) -> bool:
    """A line as somebody starts it elsewhere; what a shell would do before it is asked about."""
    before, _, last = line.rpartition("&&" if "&&" in line else ";")
    words = words_of(last, found.facts.get("port", "8000"))
    if not words:
        return False
    program = PurePosixPath(words[0]).name
    if re.fullmatch(r"python[\d.]*", program):
        words = (interpreter, *words[1:])
    elif program in _SERVERS and packages:
        words = (interpreter, "-m", _SERVERS[program], *words[1:])
    else:
        return False
    if program == "gunicorn" or (len(words) > 2 and words[1:3] == ("-m", "gunicorn")):
        words, port = _without_address(words)
        found.facts |= {"takes_socket": "gunicorn", "port": port or "8000", "port_at": file if port else "gunicorn"}
        found.facts |= {} if port else {"port_default": "gunicorn"}
    elif "--port" in words[:-1]:
        found.facts |= {"port": words[words.index("--port") + 1], "port_at": file}
    elif program in ("uvicorn", "hypercorn", "granian"):
        found.facts |= {"port": "8000", "port_at": program}
    found.add("service.command", words, "command_file", file=file, line=last.strip())
    if before.strip(" ;&"):
        whole = (*(_module(part, interpreter, packages) for part in re.split(r";|&&", before) if part.strip()),
                 f"exec {shlex.join(words)}")  # fmt: skip
        found.instead("service.command", shell("; ".join(whole)), "ask_before", file=file, line=before.strip(" ;&"))
    return True


def _module(line: str, interpreter: str, packages: dict[str, str]) -> str:
    """A command of a line, run by the interpreter that has its module: the scripts of a virtual environment name the
    place in which it was made, and a release is not there."""
    words = words_of(line)
    if words and words[0] in _SERVERS and packages:
        return shlex.join((interpreter, "-m", _SERVERS[words[0]], *words[1:]))
    return shlex.join((interpreter, *words[1:])) if words and words[0].startswith("python") else line.strip()


def _without_address(words: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """gunicorn takes the socket that it is given, and nothing of its own address is left to say."""
    kept, port, skip = list[str](), "", False
    for number, word in enumerate(words):
        if skip:
            skip = False
            continue
        value = ""
        if word in ("-b", "--bind") and number + 1 < len(words):
            value, skip = words[number + 1], True
        elif match := re.fullmatch(r"(?:-b|--bind=)(\S+)", word):
            value = match[1]
        if value:
            port = value.rpartition(":")[2] if value.rpartition(":")[2].isdigit() else port
        else:
            kept.append(word)
    return tuple(kept), port


def _gunicorn(found: Survey, interpreter: str, app: str, key: str, at: str) -> None:
    found.facts |= {"takes_socket": "gunicorn", "port": "8000", "port_at": "gunicorn", "port_default": "gunicorn"}
    found.add("service.command", (interpreter, "-m", "gunicorn", app), key, at=at)


def _app(found: Survey, app: tuple[str, re.Match[str]], packages: dict[str, str], interpreter: str) -> bool:
    at, match = app
    module = at.split(":")[0].removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    name = f"{module.removeprefix('src.')}:{match[1]}"
    found.facts["module"] = name
    if match[2] in _ASGI and "uvicorn" in packages:
        found.facts |= {"takes_socket": "--fd 3", "port": "8000", "port_at": "uvicorn", "port_default": "uvicorn"}
        found.add("service.command", (interpreter, "-m", "uvicorn", name, "--fd", "3"), "app_uvicorn", at=at)
    elif "gunicorn" in packages and match[2] not in _ASGI:
        _gunicorn(found, interpreter, name, "app_gunicorn", at)
    else:
        return False
    if module.startswith("src."):
        found.add("service.env.PYTHONPATH", "src", "python_src")
    return True


def _build(tree: Tree, found: Survey, packages: dict[str, str]) -> None:
    read_at = version_file(tree, found)
    end = WRITE_VERSION if read_at else ""
    if packages:
        source = "-r requirements.txt" if "requirements.txt" in tree.sizes else "."
        made = 'cp -R . "$0"; cd "$0"; python3 -m venv venv; PIP_CACHE_DIR=$REGROW_CACHE/pip '
        line = f"{made}venv/bin/python -m pip install {source}{end}"
        found.add("build.command", shell(line, "{out}"), "python_build", file=next(iter(packages.values())))
        found.ask("build.egress", ("index.example.org",), "python_egress")
    elif read_at:
        found.add("build.command", shell(f'cp -R . "$0"{end}', "{out}"), "build_version", at=read_at)
    elif "build.py" not in tree.sizes:
        found.add("build.command", (), "build_none", file=found.shown_by)
    if "build.py" in tree.sizes:
        found.instead("build.command", ("{python}", "build.py", "{out}"), "ask_build_file", file="build.py")


def _test(tree: Tree, found: Survey, packages: dict[str, str]) -> None:
    tests = [
        path for path in sorted(tree.texts)
        if path.endswith(".py") and re.search(r"(^|/)(test_[^/]+|[^/]+_test|tests)\.py$", path)
    ]  # fmt: skip
    if not tests:
        return
    texts = "".join(tree.texts[path] for path in tests)
    by_pytest = bool(re.search(r"^\s*(import pytest|from pytest)", texts, re.MULTILINE)) or not re.search(
        r"^\s*(import unittest|from unittest|from django\.test)", texts, re.MULTILINE
    )
    if "manage.py" in tree.texts:
        command: tuple[str, ...] = ("manage.py", "test", "--verbosity", "2")
    elif by_pytest:
        command = ("-m", "pytest", "-v")
    elif all("/" not in path for path in tests):
        names = tuple(path.removesuffix(".py") for path in tests)
        command = ("-m", "unittest", "-v", *names)
        found.add("repair.tests", tuple(f"/{path}" for path in tests), "tests_beside", file=tests[0])
    else:
        command = ("-m", "unittest", "discover", "-v", "-s", str(PurePosixPath(tests[0]).parent))
    if packages or by_pytest:
        found.ask("test.command", ("{python}", *command), "ask_test_python", file=tests[0])
    else:
        found.add("test.command", ("{python}", *command), "python_test", file=tests[0])


def _packages(tree: Tree, project: dict[str, Any]) -> dict[str, str]:
    """Packages that it needs, by name in lower case, with the file that says so."""
    found: dict[str, str] = {}
    for line in tree.texts.get("requirements.txt", "").splitlines():
        if match := _REQUIREMENT.match(line):
            found.setdefault(match[1].lower(), "requirements.txt")
    declared = project.get("dependencies")
    for one in declared if isinstance(declared, list) else []:
        if match := _REQUIREMENT.match(str(one)):
            found.setdefault(match[1].lower(), "pyproject.toml")
    poetry = _read(tree).get("tool", {}).get("poetry", {})
    for name in poetry.get("dependencies", {}) if isinstance(poetry, dict) else {}:
        if str(name).lower() != "python":
            found.setdefault(str(name).lower(), "pyproject.toml")
    if not found and "install_requires" in tree.texts.get("setup.py", "") + tree.texts.get("setup.cfg", ""):
        found["setup.py"] = "setup.py"
    return found


def _project(tree: Tree) -> dict[str, Any]:
    values = _read(tree)
    project = values.get("project")
    if isinstance(project, dict):
        return project
    poetry = values.get("tool", {}).get("poetry", {}) if isinstance(values.get("tool"), dict) else {}
    return poetry if isinstance(poetry, dict) else {}


def _read(tree: Tree) -> dict[str, Any]:
    try:
        return tomllib.loads(tree.texts.get("pyproject.toml", ""))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}
