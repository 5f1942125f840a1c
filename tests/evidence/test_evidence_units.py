"""Reports and sentences name the unit of the images: HU, counts, grey levels, and none that is not known."""

import re

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

import pairfree as pf
from pairfree import evaluate
from pairfree.evidence.examples import Example
from pairfree.evidence.interpretation import find_outliers, interpret
from pairfree.evidence.noise_view import NoiseSamples
from pairfree.evidence.noref import residual_evidence
from pairfree.evidence.report import ReportData, render_report

SIDE = 64


def scene() -> np.ndarray:
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return 100 + 300 * np.sin(rows / 6) * np.cos(columns / 9)


def words_of(page: str) -> str:
    """A page with plain spaces, after a look at the others: no line ends before a unit."""
    texts = re.sub(r"<(script|style|pre)\b.*?</\1>|<[^>]*>", "\n", page, flags=re.DOTALL)
    assert re.findall(r".*\d (?:%|px|HU|counts|intensity units)(?!\w).*", texts) == []
    assert "\u00a0px" in texts
    return page.replace("\u00a0", " ")


def write_ct(path, image: np.ndarray) -> None:
    """A CT slice in HU."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = pydicom.uid.CTImageStorage, generate_uid()
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID = generate_uid(), generate_uid()
    dataset.Modality = "CT"
    dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"
    dataset.Rows, dataset.Columns = image.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = (
        16,
        16,
        15,
        0,
    )
    dataset.PixelData = np.rint(image + 1024).astype(np.uint16).tobytes()
    dataset.save_as(path, enforce_file_format=True)


@pytest.fixture
def scans(tmp_path):
    """Noisy slices, and denoised ones that are brighter than they should be."""
    rng = np.random.default_rng(0)
    for name in ("noisy", "denoised"):
        (tmp_path / name).mkdir()
    for number in range(2):
        write_ct(tmp_path / f"noisy/{number}.dcm", scene() + rng.normal(0, 40, (SIDE, SIDE)))
        write_ct(tmp_path / f"denoised/{number}.dcm", scene() + 30)
    return tmp_path


@pytest.fixture
def evidence():
    noise = np.random.default_rng(0).normal(0, 20, (SIDE, SIDE))
    return residual_evidence(scene() + noise, scene() + 10)


@pytest.mark.parametrize("unit", ["HU", "counts"])
def test_sentences_name_the_unit(evidence, unit):
    texts = [one.text for one in interpret(evidence, unit)]
    assert any("mean residual" in text and f" {unit} " in text for text in texts)
    assert any("standard deviation" in text and f" {unit}," in text for text in texts)
    assert f" {unit} " in find_outliers([("a", evidence), ("b", evidence)], unit=unit)[0][1].text


def test_nothing_is_called_a_grey_level_where_nothing_is_known(evidence):
    texts = " ".join(one.text for one in interpret(evidence))
    assert "intensity units" in texts
    assert "grey level" not in texts


@pytest.mark.parametrize("unit", ["HU", "counts", None])
def test_a_page_names_the_unit_wherever_it_names_one(evidence, unit):
    noise = np.random.default_rng(1).normal(0, 20, (8, 1, 32, 32))
    noisy = scene() + np.random.default_rng(2).normal(0, 20, (SIDE, SIDE))
    given = {} if unit is None else {"unit": unit}
    data = ReportData(
        title="t",
        command="c",
        method_key="iscl",
        method_title="ISCL",
        examples=[Example("a", noisy, scene(), disagreement=np.abs(noisy - scene()))],
        evidence=[("a", evidence)],
        noise_samples=NoiseSamples(noise, noise),
        **given,
    )
    page = words_of(render_report(data))
    named = unit or "intensity units"
    assert "grey level" not in page
    for text in (
        f">{named}</text>",
        f"residual, {named}",
        f"noise, {named}",
        f"{named} or more",
        f"white are ±{page.partition('white are ±')[2].split()[0]} {named}",
        f"{named}, ",
    ):
        assert text in page
    if unit is not None:
        assert "intensity units" not in page


def test_folders_of_ct_are_read_in_hu(scans):
    found = evaluate(scans / "denoised", noisy=scans / "noisy")
    assert found.unit == "HU"
    assert not any("grey level" in line for line in found.sentences)
    (shifted,) = [line for line in found.sentences if "brightness has shifted" in line]
    (removed,) = [line for line in found.sentences if "standard deviation" in line]
    assert " HU (expected 0" in shifted
    assert " HU, " in removed


def test_the_report_of_a_run_on_ct_is_in_hu(scans):
    settings = {"width": 4, "batch_size": 2, "patch_px": 16}
    pf.train(scans / "noisy", out=scans / "run", method="nb2nb", steps=2, settings=settings)
    page = words_of((scans / "run/report.html").read_text(encoding="utf-8"))
    assert "grey level" not in page
    assert "residual, HU" in page
    assert "Standard deviation of what was removed" in page
    assert " HU</td>" in page
