"""What real files keep: python benchmarks/round_trip.py --data DIR (the data of ``pairfree bench``).

One file of each kind in each data set goes through the same calls that users make, with a fixed smoothing
in place of the network, so that what is lost is lost by reading and writing; ``verify`` compares the result
with its input. Formats that no data set has are written first, by the packages that others use. Writes
docs/files_measured.md and benchmarks/results/round_trip.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mrcfile
import nibabel
import numcodecs
import numpy as np
import SimpleITK
import tifffile
import torch
import zarr
from PIL import Image as Picture
from torch import nn
from torch.nn import functional

import pairfree as pf
from pairfree.engine.run import environment
from pairfree.errors import PairfreeError
from pairfree.files import find_images, open_image
from pairfree.files.fidelity import compare
from pairfree.files.listing import output_path

ROOT = Path(__file__).resolve().parent.parent
MOST_PX = 40_000_000
HEAD = """# What files kept, file by file

Written by `python benchmarks/round_trip.py`. One real file of each kind in each of our data sets, \
and written ones of kinds that none has,
went through `pairfree denoise`, with a fixed 3 x 3 smoothing in place of the network, and \
`pairfree verify`. {files} files, {checks}
checks; files that lost something: {lost}; refused or left out, and not counted: {rest}. A result \
has the format of its input
(JPEG and BMP: PNG); these are all pairs of formats but those of vendors' files (CZI, OIF, OIB, \
ND2, LIF, DM3, DM4, EMD), which come back as OME-TIFF.

| read | written | files | what they stated and kept | lost |
|---|---|---|---|---|
"""
FILES_HEAD = """
File by file:

| file | format | pixels | checks | lost | said |
|---|---|---|---|---|---|"""


class Smoothing(nn.Module):
    """Binomial weights over 3 x 3 pixels, each channel by itself; there is nothing to train."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        row = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("kernel", torch.outer(row, row)[None, None])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        kernel = self.get_buffer("kernel").expand(channels, 1, 3, 3)
        return (
            functional.conv2d(
                functional.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=channels
            )
            + 0.0 * self.weight
        )


def chosen(data: Path) -> list[Path]:
    """The first file of each suffix in each folder that holds images."""
    found: dict[tuple[Path, str], Path] = {}
    for entry in find_images([data]):
        path = entry.path
        key = (path.parent, path.suffix) if path.parent.name != "io" else (path, "")
        found.setdefault(key, path)
    return sorted(found.values())


def written(folder: Path) -> list[Path]:
    """Formats that the data sets lack."""
    rng = np.random.default_rng(0)
    stack = rng.poisson(np.kron(rng.integers(20, 200, (3, 12, 12)), np.ones((1, 8, 8)))).astype(
        np.uint16
    )
    folder.mkdir(parents=True)
    volume = nibabel.Nifti1Image(stack.T.astype(np.int16), np.diag([0.5, 0.5, 3.0, 1.0]))
    volume.header.set_xyzt_units("mm")
    for name in ("volume.nii", "volume.nii.gz"):
        volume.to_filename(folder / name)
    image = SimpleITK.GetImageFromArray(stack)
    image.SetSpacing((0.5, 0.5, 3.0))
    for name in ("volume.mha", "volume.mhd"):
        SimpleITK.WriteImage(image, str(folder / name), name.endswith("mha"))
    tifffile.imwrite(
        folder / "big-endian.tif",
        stack,
        byteorder=">",
        bigtiff=True,
        compression="zlib",
        tile=(64, 64),
        photometric="minisblack",
    )
    tifffile.imwrite(
        folder / "rgb.tif",
        np.moveaxis(stack, 0, -1).astype(np.uint8),
        photometric="rgb",
        compression="lzw",
    )
    _write_rarer(folder, stack)
    Picture.fromarray(stack[0].astype(np.uint8)).save(folder / "grey.bmp")
    np.save(folder / "float.npy", stack.astype(np.float32))
    return sorted(entry.path for entry in find_images([folder]))


def _write_rarer(folder: Path, stack: np.ndarray) -> None:
    """Kinds that few programs write: packed bits and volumes, pictures in tiles, pairs, zips, 64 bits."""
    signed = stack.astype(np.int16)
    tifffile.imwrite(folder / "12-bit.tif", stack, bitspersample=12, photometric="minisblack")
    tifffile.imwrite(
        folder / "jpeg-2000.tif",
        stack,
        compression="jpeg2000",
        tile=(32, 32),
        photometric="minisblack",
    )
    tifffile.imwrite(folder / "64-bit.tif", stack.astype(np.int64), photometric="minisblack")
    with tifffile.TiffWriter(folder / "positions.ome.tif", ome=True) as writer:
        for number in range(2):
            words = {"axes": "ZYX", "Name": f"position {number}", "PhysicalSizeX": 0.1}
            writer.write(stack, photometric="minisblack", metadata=words)
    nibabel.Nifti1Pair(signed.T, np.diag([0.5, 0.5, 3.0, 1.0])).to_filename(folder / "pair.hdr")
    nibabel.MGHImage(signed.T, np.diag([0.5, 0.5, 3.0, 1.0])).to_filename(folder / "head.mgz")
    for name, packing in (("packed.mrc.gz", "gzip"), ("packed.mrc.bz2", "bzip2")):
        mrcfile.new(folder / name, signed, compression=packing).close()
    options: Any = {"shape": stack.shape, "dtype": stack.dtype, "chunks": (1, 32, 32)}
    packing = numcodecs.Blosc("zstd", shuffle=2)
    old = zarr.create_array(str(folder / "old.zarr"), zarr_format=2, compressors=packing, **options)
    old[...] = stack
    image = pf.Image(
        stack, "ZYX", {"Z": (0.5, "µm"), "Y": (0.1, "µm"), "X": (0.1, "µm")}, family="ozx"
    )
    pf.save_image(image, folder / "zipped.ozx")


def round_trip(path: Path, name: str, folder: Path) -> dict[str, Any]:
    """One line of the table."""
    image = open_image(path)
    row: dict[str, Any] = {
        "file": name,
        "format": image.family,
        "pixels": f"{image.dtype.name} {'x'.join(map(str, image.shape))} {image.axes}",
    }
    if image.size > MOST_PX:
        return {
            **row,
            "checks": 0,
            "lost": [],
            "said": f"left out: {image.size / 1e6:.0f} megapixels",
        }
    # in plain intensities: a smoothing that leaves much noise is biased where noise is even
    words: dict[str, Any] = {"settings": {"even": False}, "device": "cpu", "report": False}
    model = pf.train([path], method="n2v", steps=1, net=Smoothing(), **words)
    (entry,) = find_images([path])
    with tempfile.TemporaryDirectory(dir=folder) as out:
        (result,) = pf.denoise(model, path, out)
        checks = compare(path, output_path(entry, Path(out)))
        row["written as"] = open_image(result.written).family
    lost = [f"{one.name}: {one.before} -> {one.after}" for one in checks if one.kept is False]
    kept = [one.name for one in checks if one.kept and one.before not in ("none", "not stated")]
    return {
        **row,
        "checks": len(checks),
        "kept": kept,
        "lost": lost,
        "said": "; ".join(result.warnings),
    }


def by_pair(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each pair of formats: what some file of it stated, and what all of them kept of that."""
    pairs: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["checks"]:
            pairs.setdefault((row["format"], row["written as"]), []).append(row)
    lines = []
    for (read, made), found in sorted(pairs.items()):
        lost = {words.partition(":")[0] for row in found for words in row["lost"]}
        kept = [
            name
            for name in dict.fromkeys(name for row in found for name in row["kept"])
            if name not in lost
        ]
        lines.append(
            f"| {read} | {made} | {len(found)} | {', '.join(kept)} | {', '.join(sorted(lost)) or 'nothing'} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = [(path, str(path.relative_to(given.data))) for path in chosen(given.data)]
        listed += [(path, f"written: {path.name}") for path in written(folder / "in")]
        for path, label in listed:
            try:
                rows.append(round_trip(path, label, folder))
            except PairfreeError as error:
                rows.append(
                    {
                        "file": label,
                        "format": "",
                        "pixels": "",
                        "checks": 0,
                        "lost": [],
                        "said": f"refused: {str(error).replace(str(path), path.name)}",
                    }
                )
            print(rows[-1], flush=True)
    facts = environment(torch.device("cpu"), "float32")
    (ROOT / "benchmarks/results/round_trip.json").write_text(
        json.dumps({"rows": rows, "environment": facts}, indent=1) + "\n", encoding="utf-8"
    )
    went = [row for row in rows if row["checks"]]
    totals = Counter(
        checks=sum(int(str(row["checks"])) for row in went),
        lost=sum(bool(row["lost"]) for row in went),
    )
    head = HEAD.format(
        files=len(went), checks=totals["checks"], lost=totals["lost"], rest=len(rows) - len(went)
    )
    lines = [*by_pair(rows), FILES_HEAD]
    for row in rows:
        lost = "; ".join(map(str, row["lost"])) or ("nothing" if row["checks"] else "-")
        texts = [row["file"], row["format"], row["pixels"], row["checks"], lost, row["said"]]
        lines.append(f"| {' | '.join(map(str, texts))} |")
    (ROOT / "docs/files_measured.md").write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
