"""What repositories of each language show, and what is left as a question."""

from __future__ import annotations

import ast
import string
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import regrow
from regrow import catalogue
from regrow.config import Config, parse
from regrow.surveys import rendering
from regrow.surveys.base import Machine, Survey, Tree, plain_name
from regrow.surveys.looking import survey

EXAMPLES = Path(regrow.__file__).parents[2] / "examples"
HERE = Path("/srv/a/regrow.toml")
GO_MAIN = 'package main\n\nimport "net/http"\n\nfunc main() {\n\thttp.ListenAndServe("127.0.0.1:9000", nil)\n}\n'
NODE_SERVER = 'require("http").createServer(answer).listen(process.env.PORT || 3000);\n'
RUST_MAIN = 'fn main() { let l = std::net::TcpListener::bind("0.0.0.0:7000").unwrap(); }\n'


def look(files: Mapping[str, str], machine: Machine | None = None, folder: str = "shop") -> Survey:
    """A survey of these files."""
    return survey(Tree({path: len(text) for path, text in files.items()}, files), folder, "main", machine)


def proposed(found: Survey) -> dict[str, object]:
    return {one.name: one.value for one in found.settings if not one.asked}


def asked(found: Survey) -> dict[str, str]:
    return {one.name: one.reason.key for one in found.settings if one.asked}


def loaded(found: Survey, language: str = "en") -> Config:
    """The configuration that is made of it, as it stands: questions are comments."""
    return parse(HERE, rendering.render(found, language))


def example(name: str) -> dict[str, str]:
    """The files of an example, without what says how Regrow cares for it."""
    root = EXAMPLES / name
    found = {}
    for path in root.rglob("*"):
        if path.is_file() and path.suffix in {".py", ".js", ".json", ".go", ".mod", ".rs", ".toml", ".txt", ".lock"}:
            relative = str(path.relative_to(root))
            if relative != "regrow.toml" and not relative.startswith("target/"):
                found[relative] = path.read_text("utf-8")
    return found


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
def test_every_example_is_understood_and_its_proposal_loads(name: str, language: str) -> None:
    found = look(example(name), folder=name)
    config = loaded(found, language)
    assert found.has("service.command")
    assert found.has("repair.allowed")
    assert config.test.command or "test.command" in asked(found)


def test_the_example_bot_is_proposed_as_it_is_cared_for() -> None:
    found = look(example("claw"), folder="claw")
    ours = parse(HERE, (EXAMPLES / "claw/regrow.toml").read_text("utf-8"))
    made = loaded(found)
    assert made.service.command[1:] == ours.service.command[1:]
    for name in ("ready", "standby", "probe_socket", "listen", "effective_handover"):
        assert getattr(made.service, name) == getattr(ours.service, name), name
    assert made.state.sqlite == ours.state.sqlite
    assert made.probe["health"].target == ours.probe["health"].target


def test_the_example_with_an_outbound_connection_is_proposed_as_it_is_cared_for() -> None:
    made = loaded(look(example("courier"), folder="courier"))
    ours = parse(HERE, (EXAMPLES / "courier/regrow.toml").read_text("utf-8"))
    assert (made.service.handover, made.service.ready) == (ours.service.handover, ours.service.ready)
    assert (made.service.command, made.state.sqlite) == (ours.service.command, ours.state.sqlite)
    assert made.repair.allowed == ours.repair.allowed


def test_go_from_the_module_to_the_release() -> None:
    found = look(
        {"go.mod": "module example.org/me/shop/v2\n\ngo 1.21\n", "main.go": GO_MAIN, "main_test.go": "package main\n"},
        Machine({"go": "/opt/go"}),
    )
    config = loaded(found)
    assert (config.service.name, config.service.command) == ("shop", ("{release}/shop",))
    assert config.build.command[-5:] == ("build", "-trimpath", "-o", "{out}/shop", ".")
    assert (config.service.effective_handover, asked(found)["service.trap_bind"]) == ("exclusive", "ask_trap")
    assert config.repair.tests == ("**/*_test.go",)
    assert config.sandbox.readable == ("/opt/go",)


def test_go_with_modules_of_others_asks_for_the_way_to_them_and_tests_after_the_build() -> None:
    manifest = "module shop\n\nrequire (\n\texample.org/sqlite v1.2.3\n)\n"
    files = {"go.mod": manifest, "main.go": GO_MAIN, "main_test.go": "package main\n"}
    found = look(files)
    assert asked(found)["build.egress"] == "go_egress"
    assert asked(found)["test.command"] == "test_after_build"
    vendored = look({**files, "vendor/modules.txt": ""})
    assert "build.egress" not in asked(vendored)
    assert vendored.has("test.command")


def test_go_takes_along_what_it_reads_from_its_directory() -> None:
    text = GO_MAIN.replace("func main() {", 'func main() {\n\ttemplate.ParseGlob("pages/*.html")')
    found = look({"go.mod": "module shop\n", "main.go": text, "pages/a.html": ""})
    assert 'cp -R pages "$0"' in str(proposed(found)["build.command"])


def test_several_main_packages_are_a_question_unless_one_has_the_name() -> None:
    files = {"go.mod": "module shop\n", "cmd/a/main.go": GO_MAIN, "cmd/b/main.go": GO_MAIN}
    assert asked(look(files))["service.command"] == "go_many"
    named = look({**files, "cmd/shop/main.go": GO_MAIN})
    assert proposed(named)["service.command"] == ("{release}/shop",)


def test_rust_from_the_package_to_the_release() -> None:
    manifest = '[package]\nname = "shop"\nversion = "1.0.0"\n'
    found = look({"Cargo.toml": manifest, "Cargo.lock": "", "src/main.rs": RUST_MAIN + "#[test]\nfn a() {}\n"})
    config = loaded(found)
    assert config.service.command == ("{release}/shop",)
    assert "--locked --offline --bin shop" in config.build.command[-2]
    assert config.test.command[-4:] == ("cargo", "test", "--locked", "--offline")
    unlocked = look({"Cargo.toml": manifest, "src/main.rs": RUST_MAIN})
    assert [one.reason.key for one in unlocked.settings if one.name == "build.command"] == ["rust_build_unlocked"]


def test_rust_with_crates_of_others() -> None:
    manifest = '[package]\nname = "shop"\n[dependencies]\nserde = "1"\n'
    found = look({"Cargo.toml": manifest, "Cargo.lock": "", "src/main.rs": RUST_MAIN, "tests/a.rs": ""})
    assert asked(found)["build.egress"] == "rust_egress"
    assert asked(found)["test.command"] == "test_after_build"
    assert "CARGO_HOME={cache}/cargo" in str(proposed(found)["build.command"])
    own = '[package]\nname = "shop"\n[dependencies]\nlib = { path = "lib" }\n'
    assert "build.egress" not in asked(look({"Cargo.toml": own, "Cargo.lock": "", "src/main.rs": RUST_MAIN}))


def test_node_by_its_start_script() -> None:
    package = '{"name": "@me/shop", "scripts": {"start": "node server.js", "test": "node --test"}}'
    found = look({"package.json": package, "server.js": NODE_SERVER})
    config = loaded(found)
    assert (config.service.name, config.service.command) == ("shop", ("node", "server.js"))
    assert config.test.command == ("node", "--test", "--test-reporter=tap")
    assert found.facts["port"] == "3000"


def test_node_with_packages_asks_for_the_way_to_them() -> None:
    package = (
        '{"scripts": {"start": "next start", "build": "next build", "test": "jest"}, "dependencies": {"next": "1"}}'
    )
    found = look({"package.json": package, "package-lock.json": "{}"})
    assert proposed(found)["service.command"] == ("{release}/node_modules/.bin/next", "start")
    assert "npm ci" in str(proposed(found)["build.command"])
    assert "npm run build" in str(proposed(found)["build.command"])
    assert {"build.egress": "node_egress", "test.command": "ask_test_packages"}.items() <= asked(found).items()
    assert asked(look({"package.json": package, "yarn.lock": ""}))["build.command"] == "node_build_lock"


@pytest.mark.parametrize("text", ["", "[]", '{"scripts": []}', "{", '{"scripts": {"start": 7}}', "[" * 5000])
def test_a_manifest_that_is_none_is_no_evidence(text: str) -> None:
    for name in ("package.json", "pyproject.toml", "Cargo.toml", "go.mod"):
        found = look({name: text})
        assert "service.command" in asked(found)


def test_python_by_a_procfile_with_what_comes_before() -> None:
    found = look(
        {"requirements.txt": "flask==3\ngunicorn==22\n", "Procfile": "web: flask db upgrade; gunicorn shop:app\n"}
    )
    config = loaded(found)
    assert config.service.command == ("{release}/venv/bin/python", "-m", "gunicorn", "shop:app")
    assert config.service.listen == {"http": "127.0.0.1:8000"}
    assert asked(found)["service.command"] == "ask_before"


def test_python_by_its_application() -> None:
    app = 'from fastapi import FastAPI\n\napp = FastAPI()\n\n\n@app.get("/healthz")\ndef health(): ...\n'
    found = look(
        {"pyproject.toml": '[project]\nname = "Shop"\ndependencies = ["fastapi", "uvicorn>=1"]\n', "shop/web.py": app}
    )
    config = loaded(found)
    assert config.service.command[1:] == ("-m", "uvicorn", "shop.web:app", "--fd", "3")
    assert config.probe["health"].target == "http://127.0.0.1:8000/healthz"
    assert asked(found)["build.egress"] == "python_egress"


def test_python_without_packages_needs_no_build() -> None:
    server = 'if __name__ == "__main__":\n    HTTPServer(("", 8080), H).serve_forever()\n'
    found = look({"serve.py": server, "test_serve.py": "import unittest\n"})
    config = loaded(found)
    assert config.service.command == ("{python}", "serve.py")
    assert config.build.command == ()
    assert config.test.command == ("{python}", "-m", "unittest", "-v", "test_serve")
    assert config.sandbox.readable == ("{python}",)


def test_a_version_that_is_read_from_a_file_is_written_by_the_build() -> None:
    server = 'VERSION = open("VERSION").read()\nanswer({"version": VERSION})\nserve("127.0.0.1:8080", "/health")\n'
    server += 'if __name__ == "__main__":\n    s.serve_forever()\n'
    config = loaded(look({"serve.py": server}))
    assert config.build.command[-2].endswith('echo "$REGROW_VERSION" >"$0/VERSION"')
    assert config.probe["health"].version == "version"
    kept = loaded(look({"serve.py": server, "VERSION": "1.2.3\n"}))
    assert kept.build.command == ()


def test_several_ports_are_a_question() -> None:
    found = look({"a.py": "import x\nx.run(port=8001)\nx.run(port=8002)\n"})
    assert asked(found)["service.listen.http"] == "ask_ports"
    assert "port" not in found.facts


def test_a_port_of_a_database_is_not_its_own() -> None:
    assert "port" not in look({"a.py": 'connect("127.0.0.1:5432")\n'}).facts


def test_a_comment_is_no_evidence() -> None:
    assert "port" not in look({"main.go": '// listens on ":9000"\npackage main\n', "go.mod": "module a\n"}).facts


def test_an_image_says_the_port_and_the_health_path() -> None:
    image = "FROM a\nEXPOSE 9000\nHEALTHCHECK CMD curl -f http://localhost:9000/alive || exit 1\nCMD node server.js\n"
    found = look({"package.json": "{}", "server.js": NODE_SERVER, "Dockerfile": image})
    assert found.facts["port"] == "9000"
    assert proposed(found)["probe.health.target"] == "http://127.0.0.1:9000/alive"


def test_values_of_variables_are_never_shown() -> None:
    files = {
        ".env.example": "API_KEY=hunter2hunter2\nexport LOG_LEVEL=chatty\n",
        "Procfile": "web: TOKEN=hunter2hunter2 ./run\n",
        "a.py": 'import os\nos.environ["DB_PASSWORD"]\n',
    }
    found = look(files)
    text = rendering.render(found, "en")
    assert "hunter2" not in text
    assert "chatty" not in text
    names = asked(found)
    assert {"service.secrets.API_KEY", "service.secrets.DB_PASSWORD", "service.env.LOG_LEVEL"} <= names.keys()


def test_data_in_the_release_is_a_question_and_data_under_the_state_is_not() -> None:
    text = 'import sqlite3\nsqlite3.connect("shop.db")\n'
    assert asked(look({"a.py": text}))["state.sqlite"] == "ask_sqlite"
    below = text + 'os.environ["REGROW_STATE"]\n'
    assert proposed(look({"a.py": below}))["state.sqlite"] == ("shop.db",)
    elsewhere = look({"a.py": 'sqlite3.connect("/var/lib/shop/shop.db")\n'})
    assert {"state.directory": "ask_directory"}.items() <= asked(elsewhere).items()


def test_a_database_in_the_repository_is_a_question_unless_it_is_of_the_tests() -> None:
    assert asked(look({"a.py": "", "data/shop.db": ""}))["state.sqlite"] == "ask_sqlite_file"
    assert "state.sqlite" not in asked(look({"a.py": "", "tests/shop.db": ""}))


def test_nothing_at_all_is_all_questions() -> None:
    found = look({"README": "hello"})
    assert {"service.command", "test.command", "repair.allowed"} <= asked(found).keys()
    assert found.language == ""


def test_a_unit_and_a_makefile_are_told_as_questions() -> None:
    found = look({"shop.service": "[Service]\nExecStart=/opt/shop/run --fast\n", "Makefile": "test:\n\t./t\n"})
    assert asked(found)["service.command"] == "ask_command_unit"
    assert asked(found)["test.command"] == "ask_test_make"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Shop", "shop"),
        ("@me/My Shop!", "me-my-shop"),
        ("101-app", "app"),
        ("小店", ""),
        ("a" * 50, "a" * 31),
        ("-", ""),
    ],
)
def test_a_plain_name(text: str, name: str) -> None:
    assert plain_name(text) == name


NAMES = st.sampled_from(
    [
        *("go.mod", "Cargo.toml", "package.json", "pyproject.toml", "requirements.txt", "Procfile", "Dockerfile"),
        *("Makefile", ".env", "a.service", "main.go", "src/main.rs", "server.js", "app.py", "tests/test_a.py"),
        *("manage.py", "x/__main__.py"),
    ]
)
PARTS = st.sampled_from(
    [
        *("module a\n", "package main\nfunc main() {\n", '":8080"', '"', "'", "\\", '[package]\nname = "a\'b"\n'),
        *("web: ", "$PORT", "; ", "\x00", "\x1b[31m", "\r", "\u2028", "{python}", "{release}", "{", "}", "@name@"),
        *('"/health"', '"x.db"', "REGROW_STATE", "LISTEN_FDS", "#[test]\n", "EXPOSE 80\n", "CMD [", "KEY=1\n"),
        *("ExecStart=/a b\n", '{"scripts": {"start": "node a"}}', "中"),
    ]
)


@given(st.dictionaries(NAMES, st.lists(PARTS | st.text(max_size=20), max_size=12).map("".join), max_size=6))
def test_whatever_a_repository_holds_the_proposal_is_a_configuration(files: dict[str, str]) -> None:
    found = look(files)
    for language in ("en", "zh"):
        text = rendering.render(found, language)
        if found.has("service.command"):
            parse(HERE, text)
        else:
            assert "# command = " in text
        assert all(one.isprintable() or one == "\n" for one in text)


def test_every_reason_has_its_text_with_its_fields() -> None:
    """Calls with a key in their text: what they give must be what the catalogue's sentence asks for."""
    texts = catalogue.texts("en", "init")
    used: dict[str, set[str]] = {}
    for path in (Path(regrow.__file__).parent / "surveys").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            if node.func.attr in ("add", "ask", "instead") and len(node.args) == 3:
                keys = [one.value for one in ast.walk(node.args[2]) if isinstance(one, ast.Constant)]
                for key in keys:
                    used.setdefault(str(key), set()).update(str(one.arg) for one in node.keywords)
    assert used
    for key, given_fields in used.items():
        wanted = {field for _, field, _, _ in string.Formatter().parse(texts[f"init.{key}"]) if field}
        assert wanted <= given_fields, key
    others = {key.removeprefix("init.") for key in texts} - used.keys()
    assert {
        key for key in others if not key.startswith(("head", "template_", "next_", "django", "app_gunicorn"))
    } == set()
