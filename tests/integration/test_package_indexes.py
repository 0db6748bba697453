"""Real package managers in a build's box, through its way out, to an index that is known by name and speaks TLS: what
docs/how-to/build-with-packages.md says of pip, npm and go."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import hashlib
import io
import json
import os
import shutil
import socket
import tarfile
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from regrow.boxes import build_box
from regrow.config import parse
from regrow.process import Completed
from regrow.rehearsals import INTERPRETER
from regrow.sandboxes import egress
from regrow.sandboxes.bubblewrap import BubblewrapSandbox

NAME = "index.example.org"
PYTHON = next((str(prefix / "bin/python3") for prefix in INTERPRETER), "/usr/bin/python3")
DEADLINE_S = 120.0


def wheel() -> bytes:
    """A package for pip."""
    files = {
        "tiny.py": "SAID = 'hello'\n",
        "tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n",
        "tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files["tiny-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in files)
    return zipped(files)


def zipped(files: Mapping[str, str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()


def tarball() -> bytes:
    """A package for npm."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, text in {
            "package/package.json": json.dumps({"name": "tiny", "version": "1.0.0", "main": "tiny.js"}),
            "package/tiny.js": "module.exports = 'hello'\n",
        }.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return made.getvalue()


def contents() -> dict[str, bytes]:
    """The whole index: a package of each kind, by path."""
    of_pip, of_npm, mod = wheel(), tarball(), "module example.org/tiny\n"
    file = f"tiny-1.0-py3-none-any.whl#sha256={hashlib.sha256(of_pip).hexdigest()}"
    version = {
        "name": "tiny",
        "version": "1.0.0",
        "dist": {
            "tarball": f"https://{NAME}/npm/tiny-1.0.0.tgz",
            "integrity": "sha512-" + base64.b64encode(hashlib.sha512(of_npm).digest()).decode(),
        },
    }
    listed = {"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}}
    inside = "example.org/tiny@v1.0.0/"
    return {
        "/simple/tiny/": f'<!doctype html><a href="/files/{file}">tiny-1.0-py3-none-any.whl</a>'.encode(),
        "/files/tiny-1.0-py3-none-any.whl": of_pip,
        "/npm/tiny": json.dumps(listed).encode(),
        "/npm/tiny-1.0.0.tgz": of_npm,
        "/go/example.org/tiny/@v/v1.0.0.info": b'{"Version":"v1.0.0","Time":"2026-01-01T00:00:00Z"}',
        "/go/example.org/tiny/@v/v1.0.0.mod": mod.encode(),
        "/go/example.org/tiny/@v/v1.0.0.zip": zipped({f"{inside}go.mod": mod, f"{inside}tiny.go": "package tiny\n"}),
    }


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for the index, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    day, now = datetime.timedelta(days=1), datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "index.pem", directory / "index-key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*encoding))
    return paths


class Build:
    """A build that may ask the index and nobody else."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.tree, self.out, self.cache = (root / name for name in ("tree", "out", "cache"))
        for directory in (self.tree, self.out, self.cache):
            directory.mkdir()
        self.asked: list[str] = []

    async def run(self, command: Sequence[str], **env: str) -> Completed:
        """Run a command of a build in its box."""
        toml = '[service]\nname = "tiny"\ncommand = ["{python}"]\n[source]\nrepository = "x"\n[build]\n'
        config = parse(self.root / "regrow.toml", f'{toml}egress = ["{NAME}"]\n[sandbox]\nreadable = ["{{python}}"]\n')
        trusted = dict.fromkeys(
            ("PIP_CERT", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE"), str(self.tree / "trusted.crt")
        )  # as a build must where an index has a certificate of its own
        env = {"HOME": "/tmp", **trusted, **env}
        box = build_box(config, self.tree, self.out, self.cache, env)
        return await BubblewrapSandbox().run(command, box, timeout_s=DEADLINE_S)

    def pip(self, index: str = NAME) -> list[str]:
        return [
            *(PYTHON, "-m", "pip", "install", "--no-input", "--isolated", "--disable-pip-version-check"),
            *("--retries", "1", "--timeout", "20", "--cert", str(self.tree / "trusted.crt")),
            *("--index-url", f"https://{index}/simple", "--cache-dir", str(self.cache / "pip")),
            *("--target", str(self.out / "lib"), "tiny==1.0"),
        ]


@pytest.fixture
async def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Build]:
    made = Build(tmp_path)
    pem, key = certificate(tmp_path)
    shutil.copy(pem, made.tree / "trusted.crt")
    held = contents()

    async def answer(request: Request) -> Response:
        made.asked.append(f"{request.headers['host']}{request.url.path}")
        found = held.get(request.url.path)
        headers = {"cache-control": "max-age=600"}
        return Response(found, 200 if found is not None else 404, headers, media_type=_type(request.url.path))

    async def resolve(name: str) -> Sequence[str]:
        return ["1.1.1.1"]

    async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(*listening.getsockname())

    monkeypatch.setattr(egress, "resolve", resolve)
    monkeypatch.setattr(egress, "dial", dial)
    listening = socket.create_server(("127.0.0.1", 0))
    app = Starlette(routes=[Route("/{path:path}", answer)])
    config = uvicorn.Config(
        app, ssl_certfile=pem, ssl_keyfile=key, log_config=None, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    monkeypatch.setattr(server, "capture_signals", contextlib.nullcontext)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield made
    finally:
        server.should_exit = True
        await serving


def _type(path: str) -> str:
    return "text/html" if path.startswith("/simple") else "application/json" if path == "/npm/tiny" else "text/plain"


async def test_pip_installs_from_a_listed_index(build: Build) -> None:
    done = await build.run(build.pip())
    assert done.code == 0, done.output
    assert (build.out / "lib" / "tiny.py").read_text() == "SAID = 'hello'\n"
    assert build.asked == [f"{NAME}/simple/tiny/", f"{NAME}/files/tiny-1.0-py3-none-any.whl"]
    assert list((build.cache / "pip").iterdir())
    assert (build.out / "lib" / "tiny.py").stat().st_uid == os.geteuid(), "a file of the box's user was left"


async def test_what_is_not_listed_is_named_in_the_output_of_pip(build: Build) -> None:
    done = await build.run(build.pip("other.example.org"))
    assert done.code != 0
    assert "other.example.org is not in [build] egress" in done.output
    assert build.asked == []


async def test_npm_installs_from_a_listed_registry(build: Build) -> None:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    wanted = {"dependencies": {"tiny": "1.0.0"}}
    version = json.loads(contents()["/npm/tiny"])["versions"]["1.0.0"]
    locked = {"version": "1.0.0", "resolved": version["dist"]["tarball"], "integrity": version["dist"]["integrity"]}
    lock = {"lockfileVersion": 3, "requires": True, "packages": {"": wanted, "node_modules/tiny": locked}}
    (build.tree / "package.json").write_text(json.dumps({"private": True, **wanted}))
    (build.tree / "package-lock.json").write_text(json.dumps(lock))
    command = ["sh", "-c", f"cp package.json package-lock.json {build.out} && exec npm ci --prefix {build.out}"]
    settings = {"npm_config_registry": f"https://{NAME}/npm/", "npm_config_cache": str(build.cache / "npm")}
    done = await build.run(command, **settings, npm_config_fetch_retries="0", npm_config_update_notifier="false")
    assert done.code == 0, done.output
    assert (build.out / "node_modules/tiny/tiny.js").read_text() == "module.exports = 'hello'\n"
    assert f"{NAME}/npm/tiny-1.0.0.tgz" in build.asked


async def test_go_downloads_from_a_listed_proxy(build: Build) -> None:
    program = shutil.which("go")
    if program is None:
        pytest.skip("go is not installed")
    settings = {"GOPROXY": f"https://{NAME}/go", "GOSUMDB": "off", "GOFLAGS": "-modcacherw"}
    caches = {"GOMODCACHE": str(build.cache / "mod"), "GOCACHE": str(build.cache / "go"), "GOTOOLCHAIN": "local"}
    # Beside a go.mod it would write into the tree, which a build does not.
    download = f"cd /tmp && exec {os.path.realpath(program)} mod download example.org/tiny@v1.0.0"
    done = await build.run(["sh", "-c", download], **settings, **caches)
    assert done.code == 0, done.output
    assert (build.cache / "mod/example.org/tiny@v1.0.0/tiny.go").read_text() == "package tiny\n"
