"""Rust: the package, its program, and a build that keeps its target between releases."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from regrow.surveys.base import Survey, Tree, plain_name
from regrow.surveys.lines import shell


def look(tree: Tree, found: Survey) -> None:
    """Find the program, how it is built and how it is tested."""
    programs: dict[str, tuple[str, str]] = {}
    manifests = [path for path in tree.named("Cargo.toml") if "/target/" not in path]
    for path in manifests:
        for name in _programs(tree, path):
            programs.setdefault(name, (path, _read(tree, path).get("package", {}).get("name", "")))
    root = _read(tree, "Cargo.toml")
    package = root.get("package", {})
    found.facts["declared"] = str(package.get("name", ""))
    chosen = str(package.get("default-run", "")) or (next(iter(programs)) if len(programs) == 1 else "")
    if not chosen and package.get("name") in programs:
        chosen = str(package["name"])
    if chosen not in programs:
        if programs:
            example = (f"{{release}}/{next(iter(programs))}",)
            found.ask("service.command", example, "rust_many", programs=", ".join(programs))
        return
    if not re.fullmatch(r"[\w-]+", chosen):
        return
    manifest, of = programs[chosen]
    found.facts |= {"binary": chosen, "declared": found.facts["declared"] or plain_name(chosen)}
    found.add("service.command", (f"{{release}}/{chosen}",), "rust_main", file=manifest)
    needs = any(_needs(_read(tree, path)) for path in manifests) and "vendor/" not in " ".join(tree.sizes)
    lock = "Cargo.lock" in tree.sizes
    options = f"--bin {chosen}" + (f" --package {of}" if manifest != "Cargo.toml" and of else "")
    environment = ["CARGO_TARGET_DIR={cache}/target"]
    if needs:
        environment.append("CARGO_HOME={cache}/cargo")
        found.ask("build.egress", ("index.example.org",), "rust_egress")
    words = f"cargo build --release {'--locked ' if lock else ''}{'' if needs else '--offline '}{options}"
    line = f'{words}; cp "$CARGO_TARGET_DIR/release/{chosen}" "$0"/'
    found.add(
        "build.command", ("env", *environment, *shell(line, "{out}")), "rust_build" if lock else "rust_build_unlocked"
    )
    tested = [path for path, text in tree.texts.items() if path.endswith(".rs") and "#[test]" in text]
    tested += [path for path in tree.sizes if re.search(r"(^|/)tests/[^/]+\.rs$", path)]
    if tested:
        command = ["env", "CARGO_TARGET_DIR=/tmp/target", *(["CARGO_HOME={cache}/cargo"] if needs else [])]
        command += ["cargo", "test", *(["--locked"] if lock else []), "--offline"]
        if needs:
            found.ask("test.cache", True, "test_cache")
            found.ask("test.command", tuple(command), "test_after_build", file=tested[0])
        else:
            found.add("test.command", tuple(command), "rust_test", file=tested[0])
    folders = ("src/**/*.rs",) if any(path.startswith("src/") for path in tree.sizes) else ("**/src/**/*.rs",)
    found.add("repair.allowed", folders, "rust_allowed")


def _programs(tree: Tree, manifest: str) -> list[str]:
    values = _read(tree, manifest)
    folder = manifest.removesuffix("Cargo.toml")
    name = str(values.get("package", {}).get("name", ""))
    found = [str(one["name"]) for one in values.get("bin", []) if isinstance(one, dict) and "name" in one]
    paths = {str(one.get("path", "")) for one in values.get("bin", []) if isinstance(one, dict)}
    if name and f"{folder}src/main.rs" in tree.sizes and "src/main.rs" not in paths and name not in found:
        found.append(name)
    for path in tree.sizes:
        if (match := re.fullmatch(re.escape(folder) + r"src/bin/([\w-]+)(?:\.rs|/main\.rs)", path)) and match[
            1
        ] not in found:
            found.append(match[1])
    return found


def _needs(values: dict[str, Any]) -> bool:
    """Whether crates of others have to be fetched; those of the same repository are there."""
    tables = [values, values.get("workspace", {}), *_dictionaries(values.get("target", {}))]
    for table in tables:
        for kind in ("dependencies", "build-dependencies", "dev-dependencies"):
            for one in _dictionaries({"": table.get(kind, {})}):
                if any(not (isinstance(row, dict) and ("path" in row or row.get("workspace"))) for row in one.values()):
                    return True
    return False


def _dictionaries(values: Any) -> list[dict[str, Any]]:
    return [one for one in values.values() if isinstance(one, dict)] if isinstance(values, dict) else []


def _read(tree: Tree, path: str) -> dict[str, Any]:
    try:
        return tomllib.loads(tree.texts.get(path, ""))
    except (tomllib.TOMLDecodeError, RecursionError):
        return {}
