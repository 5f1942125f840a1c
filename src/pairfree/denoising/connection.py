"""The connection to a Dask cluster: to a scheduler that runs already, or to workers that are started here.

dask is an optional package, imported when a cluster is asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from pairfree.errors import ConfigError, MissingPackageError

LOCAL = "local"
TIMEOUT_S = 20.0
WORDS_OF_DASK = 120
"""Letters of what dask says that are repeated in a message."""


@contextmanager
def connect(scheduler: str) -> Iterator[Any]:
    """A Dask client, of a scheduler or of a new local cluster.

    Parameters
    ----------
    scheduler
        The address of a scheduler such as tcp://host:8786, or "local", or "local:4" for so many workers.

    Raises
    ------
    MissingPackageError
        Where dask is not installed.
    ConfigError
        For a scheduler that does not answer.
    """
    dask = import_dask()
    with _quiet():
        yield from _connect(dask, scheduler)


def _connect(dask: Any, scheduler: str) -> Iterator[Any]:
    if scheduler.partition(":")[0] == LOCAL:
        with _start_locally(dask, count_workers(scheduler)) as client:
            yield client
        return
    try:
        client = dask.Client(scheduler, timeout=TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {scheduler}: {words_of(error)}") from None
    with client:
        yield client


def import_dask() -> Any:
    """The package, whose functions have no types."""
    try:
        import distributed
    except ImportError:
        raise MissingPackageError(
            "prediction on a cluster needs the package dask: pip install 'pairfree[dask]'"
        ) from None
    return distributed


@contextmanager
def _start_locally(dask: Any, workers: int) -> Iterator[Any]:
    with ExitStack() as held:
        with _same_environment():
            made = dask.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=None,
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
            )
            cluster = held.enter_context(made)
        yield held.enter_context(dask.Client(cluster))


@contextmanager
def _quiet() -> Iterator[None]:
    """What Dask logs on a lost connection is told in one line, by whoever meets it."""
    loggers = [logging.getLogger(name) for name in (*logging.root.manager.loggerDict,)]
    of_dask = {one: one.level for one in loggers if one.name.partition(".")[0] == "distributed"}
    for one in of_dask:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in of_dask.items():
            one.setLevel(level)


@contextmanager
def _same_environment() -> Iterator[None]:
    """Take back what Dask sets in this process as it starts workers, OMP_NUM_THREADS and more."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in set(os.environ) - set(before):
            del os.environ[name]
        os.environ.update(before)


def count_cores() -> int:
    """Those of this machine that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_workers(scheduler: str) -> int:
    """How many workers "local" or "local:N" asks for."""
    text = scheduler.partition(":")[2]
    if not text:
        return count_cores()
    if not text.isdigit() or int(text) < 1:
        raise ConfigError(
            f"`scheduler` {scheduler}: expected local, local:N with a number of workers, "
            "or an address such as tcp://host:8786"
        )
    return int(text)


def words_of(error: BaseException) -> str:
    """What an exception says, as one short line."""
    return " ".join(str(error).split())[:WORDS_OF_DASK]
