"""What pairfree needs of zarr beyond what zarr publishes is still there, and does what it did.

Where one of these fails with a new release of zarr, only files/formats/zarr_internals.py is to be changed,
and what uses it: zarr_bounds.py (a pipeline of codecs that stops what inflates too far) and the lookup of a
chunk's file in zarr_chunks.py and ome_zarr.py.
"""

from __future__ import annotations

import ast
import asyncio
import dataclasses
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr

from pairfree.errors import InputError
from pairfree.files.formats import zarr_internals
from pairfree.files.formats.zarr_bounds import BoundedPipeline, bounded_chunks

SRC = Path(zarr_internals.__file__).parents[2]
HERE = f"zarr {zarr.__version__}; look at files/formats/zarr_internals.py"
PRIVATE = ("zarr.core", "zarr.codecs._")


def private_imports(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return [name for name in found if name.startswith(PRIVATE)]


def test_private_modules_of_zarr_are_imported_in_one_file() -> None:
    users = {path.name for path in SRC.rglob("*.py") if private_imports(path)}
    assert users == {"zarr_internals.py"}, (
        "ask for it there, behind a function, and add a test here"
    )


def test_the_pipeline_is_zarrs_own_and_has_what_ours_uses() -> None:
    pipeline = zarr_internals.batched_pipeline()
    name = f"{pipeline.__module__}.{pipeline.__qualname__}"
    assert zarr.config.get("codec_pipeline.path") == name, (
        f"another pipeline is zarr's default now: {HERE}"
    )
    fields = {field.name for field in dataclasses.fields(pipeline)}
    assert {"array_array_codecs", "array_bytes_codec", "bytes_bytes_codecs"} <= fields, HERE
    assert asyncio.iscoroutinefunction(pipeline.decode_batch), (
        f"decode_batch is another function now: {HERE}"
    )
    assert callable(pipeline.from_codecs), HERE


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_arrays_are_decoded_by_our_pipeline(
    zarr_format: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    """Else nothing bounds what a chunk inflates to, and no error says so."""
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(8, 8), chunks=(4, 4), dtype="u2", zarr_format=zarr_format
    )
    array[...] = 7
    asked = []
    true = BoundedPipeline.decode_batch

    async def counted(self: Any, given: Any) -> Any:
        asked.append(0)
        return await true(self, given)

    monkeypatch.setattr(BoundedPipeline, "decode_batch", counted)
    with bounded_chunks():
        found = zarr.open_array(tmp_path / "a.zarr", mode="r")[...]
    assert (np.asarray(found) == 7).all()
    assert asked, f"zarr does not ask the pipeline of its settings, or not by decode_batch: {HERE}"


def test_the_codec_of_format_2_is_what_arrays_have(tmp_path: Path, monkeypatch: Any) -> None:
    codec = zarr_internals.zarr_2_codec()
    assert {"filters", "compressor"} <= {field.name for field in dataclasses.fields(codec)}, HERE
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(8, 8), chunks=(4, 4), dtype="u2", zarr_format=2
    )
    array[...] = 7
    met = []
    true = BoundedPipeline.decode_batch

    async def noted(self: Any, given: Any) -> Any:
        met.append(self.array_bytes_codec)
        return await true(self, given)

    monkeypatch.setattr(BoundedPipeline, "decode_batch", noted)
    with bounded_chunks():
        zarr.open_array(tmp_path / "a.zarr", mode="r")[...]
    assert met, HERE
    assert all(isinstance(one, codec) for one in met), (
        f"format 2 is decoded by another codec now: {HERE}"
    )


def test_the_size_of_a_chunk_is_read_from_its_specification(
    monkeypatch: Any, tmp_path: Path
) -> None:
    array = zarr.create_array(
        tmp_path / "a.zarr", shape=(8, 8), chunks=(4, 2), dtype="u2", zarr_format=3
    )
    array[...] = 7
    sizes = []
    true = BoundedPipeline.decode_batch

    async def measured(self: Any, given: Any) -> Any:
        given = list(given)
        sizes.extend(zarr_internals.bytes_of_chunk(spec) for _, spec in given)
        return await true(self, given)

    monkeypatch.setattr(BoundedPipeline, "decode_batch", measured)
    with bounded_chunks():
        zarr.open_array(tmp_path / "a.zarr", mode="r")[...]
    assert set(sizes) == {4 * 2 * 2}, (
        f"the specification of a chunk states its shape or type otherwise now: {HERE}"
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shards", [None, (4, 8)])
def test_the_file_of_a_chunk_is_found(zarr_format: Any, shards: Any, tmp_path: Path) -> None:
    if zarr_format == 2 and shards:
        pytest.skip("format 2 has no shards")
    root = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=zarr_format)
    array = root.create_array("deep/0", shape=(8, 8), chunks=(4, 4), shards=shards, dtype="u2")
    array[...] = 7
    opened = zarr.open_group(tmp_path / "a.zarr", mode="r")["deep/0"]
    file = tmp_path / "a.zarr" / opened.path / zarr_internals.name_of_chunk(opened, (1, 0))
    assert file.is_file(), (
        f"chunks have other names now, or an array tells otherwise where it lies: {HERE}"
    )


@pytest.mark.parametrize(
    ("module", "ask"),
    [
        ("zarr.core.codec_pipeline", zarr_internals.batched_pipeline),
        ("zarr.codecs._v2", zarr_internals.zarr_2_codec),
    ],
)
def test_what_a_release_has_moved_is_one_line(module: str, ask: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, module, SimpleNamespace())
    with pytest.raises(InputError, match=rf"zarr .* has no {module}\..*install an earlier zarr"):
        ask()
