"""The box of a test or a build: what of the world the service's own commands see."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regrow.config import Config
from regrow.sandboxes.base import Box
from regrow.sandboxes.masks import secret_files


def test_box(config: Config, tree: Path, cache: Path) -> Box:
    """Where the tests run.

    Args:
        config: the service's.
        tree: the files to test.
        cache: the build cache; tests see it where `[test] cache` says so, and never write it.
    """
    return _box(config, tree, config.test.env, config.test.nice, readable=(cache,) if config.test.cache else ())


def build_box(config: Config, tree: Path, out: Path, cache: Path, env: Mapping[str, str]) -> Box:
    """Where a build runs. With a way out, the secret files of the tree read as empty: what can be reached can be told
    them.

    Args:
        config: the service's.
        tree: the files to build.
        out: where the release goes.
        cache: the build cache, which builds alone may write.
        env: variables besides those of the settings.
    """
    return _box(
        config,
        tree,
        config.build.env | dict(env),
        config.build.nice,
        writable=(out, cache) if config.build.cache else (out,),
        masked=secret_files(tree) if config.build.egress else (),
        egress=config.build.egress,
    )


def _box(
    config: Config,
    tree: Path,
    env: Mapping[str, str],
    nice: int,
    *,
    writable: tuple[Path, ...] = (),
    readable: tuple[Path, ...] = (),
    masked: tuple[Path, ...] = (),
    egress: tuple[str, ...] = (),
) -> Box:
    limits = config.sandbox
    return Box(
        workspace=tree,
        writable=writable,
        readable=(*config.readable(), *readable),
        masked=masked,
        env={"PYTHONDONTWRITEBYTECODE": "1", **env},
        memory_bytes=limits.memory,
        file_bytes=limits.file_size,
        processes=limits.processes,
        nice=nice,
        cpus=limits.cpus,
        temporary_bytes=limits.temporary,
        egress=egress,
    )
