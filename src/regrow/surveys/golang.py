"""Go: the module, its main package, and what is read from the working directory beside the binary."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from regrow.surveys.base import Survey, Tree, plain_name
from regrow.surveys.lines import image_command, shell

_MODULE = re.compile(r"^module\s+(\S+)", re.MULTILINE)
_REQUIRE = re.compile(r"^\s*(?:require\s+)?([\w.-]+\.[\w.-]+/\S+)\s+v\d\S*(?!\s*//\s*indirect)", re.MULTILINE)
_MAIN = re.compile(r"^func main\(\)", re.MULTILINE)
_PACKAGE = re.compile(r"^package\s+(\w+)", re.MULTILINE)
_VERSION = re.compile(r"^(?:var\s+|\t)(version|Version)\s*(?:string\s*)?=\s*\"", re.MULTILINE)
_READ = re.compile(
    r"""(?:ParseFiles|ParseGlob|http\.Dir|LoadHTMLGlob|os\.DirFS|FileServer\w*)\(\s*["`](?:\./)?([\w-]+)"""
)


def look(tree: Tree, found: Survey) -> None:
    """Find the main package, how it is built and how it is tested."""
    manifest = tree.texts.get("go.mod", "")
    module = match[1] if (match := _MODULE.search(manifest)) else ""
    last = next((part for part in reversed(module.split("/")) if not re.fullmatch(r"v\d+", part)), "")
    found.facts["declared"] = last
    packages: dict[str, str] = {}
    for path, text in tree.sources(".go"):
        package = _PACKAGE.search(text)
        if package and package[1] == "main" and _MAIN.search(text):
            packages.setdefault(str(PurePosixPath(path).parent), path)
    main = _chosen(tree, packages, last)
    if main is None:
        if packages:
            found.ask("service.command", (f"{{release}}/{last or 'server'}",), "go_many", packages=", ".join(packages))
        return
    where = "." if main == "." else f"./{main}"
    name = plain_name(last if main == "." else PurePosixPath(main).name) or "server"
    found.facts |= {"main": where, "binary": name}
    found.add("service.command", (f"{{release}}/{name}",), "go_main", file=packages[main])
    _build(tree, found, where, name, manifest)
    if any(path.endswith("_test.go") for path in tree.sizes):
        file = next(path for path in sorted(tree.sizes) if path.endswith("_test.go"))
        line = 'cp -Rs "$0/build" /tmp/ 2>/dev/null || true; exec go test -trimpath -v ./...'
        command = ("env", *_environment(tree, manifest), "GOCACHE=/tmp/build", *shell(line, "{cache}"))
        if _needs(tree, manifest):
            found.ask("test.cache", True, "test_cache")
            found.ask("test.command", command, "test_after_build", file=file)
        else:
            found.add("test.cache", True, "go_test_cache")
            found.add("test.command", command, "go_test", file=file)
        found.add("repair.tests", ("**/*_test.go",), "go_tests")
    found.add("repair.allowed", ("**/*.go",), "go_allowed")


def _chosen(tree: Tree, packages: dict[str, str], last: str) -> str | None:
    """The one that is the service: the only one, the one at the root, the one with the module's name, or the one that
    the image starts."""
    if len(packages) == 1:
        return next(iter(packages))
    if "." in packages:
        return "."
    named = [one for one in packages if PurePosixPath(one).name == last]
    started = PurePosixPath(image_command(tree).split(" ", maxsplit=1)[0]).name
    imaged = [one for one in packages if started and PurePosixPath(one).name == started]
    return next((found[0] for found in (named, imaged) if len(found) == 1), None)


def _needs(tree: Tree, manifest: str) -> bool:
    """Whether modules of others have to be fetched."""
    return bool(_REQUIRE.search(manifest)) and "vendor/modules.txt" not in tree.sizes


def _environment(tree: Tree, manifest: str) -> list[str]:
    """Of builds and tests alike, so that one finds what the other has compiled."""
    variables = ["GOFLAGS=-buildvcs=false", "GOTOOLCHAIN=local"]
    if not any('import "C"' in text or "go-sqlite3" in text for _, text in tree.sources(".go")):
        variables.insert(0, "CGO_ENABLED=0")
    return [*variables, "GOMODCACHE={cache}/mod"] if _needs(tree, manifest) else variables


def _build(tree: Tree, found: Survey, where: str, name: str, manifest: str) -> None:
    environment = [*_environment(tree, manifest), "GOCACHE={cache}/build"]
    if _needs(tree, manifest):
        found.ask("build.egress", ("index.example.org",), "go_egress")
    beside = sorted({match[1] for _, match in tree.find(_READ, ".go") if _is_folder(tree, match[1])})
    version = next((at for at, _ in tree.find(_VERSION, ".go")), "")
    if not version and not beside:
        command = ("env", *environment, "go", "build", "-trimpath", "-o", f"{{out}}/{name}", where)
        found.add("build.command", command, "go_build")
        return
    lines = [f'cp -R {" ".join(beside)} "$0"/'] if beside else []
    flags = ""
    if version:
        variable = next(match[1] for _, match in tree.find(_VERSION, ".go"))
        found.facts["told"] = version
        flags = f' -ldflags "-X main.{variable}=$REGROW_VERSION"'
    lines.append(f'go build -trimpath{flags} -o "$0"/{name} {where}')
    command = ("env", *environment, *shell("; ".join(lines), "{out}"))
    if beside:
        found.add("build.command", command, "go_build_beside", folders=", ".join(beside))
    else:
        found.add("build.command", command, "go_build_version", at=version)


def _is_folder(tree: Tree, name: str) -> bool:
    return any(path.startswith(f"{name}/") for path in tree.sizes)
