"""The way a user goes: simulate, train, denoise, evaluate, look; and what comes back of their files."""

import json
import re
import sys
import tomllib

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image as Pillow

import pairfree as pf
from pairfree.cli import main as cli
from pairfree.config import parse_bytes
from pairfree.errors import InputError

FAST = [
    "--set=width=4",
    "--set=patch_px=16",
    "--set=batch_size=2",
    "--set=precision=float32",
    "--steps=3",
]


@pytest.fixture
def pairfree(pairfree, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        """stdout of a command that succeeds."""
        code, said, err = pairfree(*arguments)
        assert code == 0, err
        return said

    return call


@pytest.fixture
def no_report(monkeypatch):
    monkeypatch.setattr("pairfree.training.report.write_run_report", lambda *_: [])


def scene(seed, shape=(48, 56), dtype=np.uint8):
    rows, columns = np.indices(shape)
    values = 120 + 60 * np.sin(rows / 5 + seed) * np.cos(columns / 7)
    return (values * (1 if np.dtype(dtype) == np.uint8 else 100)).astype(dtype)


def test_diagnose_says_what_the_noise_is_like(pairfree, tmp_path):
    """Words, a table, a page and JSON; the noise is then drawn onto other images."""
    (tmp_path / "clean").mkdir()
    Pillow.fromarray(scene(0, (96, 96))).save(tmp_path / "clean/a.png")
    pairfree("simulate", "clean", "--noise", "gaussian:sigma=12", "--out", "noisy", "--float")
    said = pairfree("diagnose", "noisy", "--report", "noise.html", "--json", "noise.json")
    assert "a.tif" in said
    assert "Fits: " in said
    assert "<svg" in (tmp_path / "noise.html").read_text()
    stored = json.loads((tmp_path / "noise.json").read_text())
    level = stored["files"][0]["level"]["value"]
    pairfree("simulate", "clean", "--noise", "law:noise.json", "--out", "alike", "--float")
    clean = np.asarray(Pillow.open(tmp_path / "clean/a.png")).astype(float)
    alike = tifffile.imread(tmp_path / "alike/a.tif") - clean
    assert level == pytest.approx(12.0, rel=0.2)
    assert alike.std() == pytest.approx(level, rel=0.1)


def test_from_clean_files_to_scores(pairfree, tmp_path):
    """simulate -> dry run -> train -> denoise -> evaluate --json -> info, with a report at the end."""
    (tmp_path / "clean").mkdir()
    for number in range(2):
        Pillow.fromarray(scene(number)).save(tmp_path / f"clean/{number}.png")
    assert "2 files" in pairfree(
        "simulate", "clean", "--noise", "gaussian:sigma=25", "--out", "noisy", "--seed", "3"
    )
    resolved = tomllib.loads(
        pairfree(
            "train", "noisy", "--out", "run", "--method", "nb2nb", "--seed", "7", "--dry-run", *FAST
        )
    )
    assert (resolved["method"], resolved["seed"], resolved["steps"]) == ("nb2nb", 7, 3)
    assert resolved["data"]["images"] == 2
    assert not (tmp_path / "run").exists()
    assert "report: run/report.html" in pairfree(
        "train", "noisy", "--out", "run", "--method", "nb2nb", *FAST
    )
    assert "<html" in (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "2 files" in pairfree("denoise", "run", "noisy", "--out", "out")
    told = pairfree(
        "evaluate",
        "--denoised",
        "out",
        "--clean",
        "clean",
        "--noisy",
        "noisy",
        "--data-range",
        "255",
        "--json",
        "scores.json",
    )
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert f"{scores['scores']['0']['psnr_db']:.2f}" in told
    assert 10 < scores["scores"]["0"]["psnr_db"] < 40
    assert scores["evidence"].keys() == {"0", "1"}
    facts = pairfree("info", "run")
    assert "nb2nb" in facts
    assert "finished" in facts
    assert "step" in pairfree("info", next((tmp_path / "run/checkpoints").glob("*3.json")))
    assert "48 x 56 (YX)" in pairfree("info", "noisy/0.png")


def test_simulated_noise_leaves_transparency_alone(pairfree, tmp_path):
    rgba = np.stack(
        [scene(0), scene(1), scene(2), np.where(scene(3) > 120, 255, 40).astype(np.uint8)], axis=-1
    )
    Pillow.fromarray(rgba).save(tmp_path / "clean.png")
    pairfree("simulate", "clean.png", "--noise", "gaussian:sigma=25", "--out", "noisy")
    found = np.asarray(Pillow.open(tmp_path / "noisy/clean.png"))
    np.testing.assert_array_equal(found[..., 3], rgba[..., 3])
    assert np.std(found[..., :3].astype(float) - rgba[..., :3]) == pytest.approx(25, rel=0.05)


def test_an_unpaired_run_from_several_clean_folders(pairfree, tmp_path):
    """train NOISY --clean A B: the method is iscl, and the dry run tells both maps.

    info counts the weights that denoise.
    """
    rng = np.random.default_rng(0)
    for folder, seed in (("noisy", 0), ("a", 3), ("b", 5)):
        (tmp_path / folder).mkdir()
        image = rng.normal(scene(seed), 20 if folder == "noisy" else 1)
        tifffile.imwrite(tmp_path / folder / "1.tif", image.astype(np.float32))
    small = [
        "--set=width=4",
        "--set=extractor_width=4",
        "--set=extractor_depth=3",
        "--set=critic_width=4",
        "--set=blocks=1",
    ]
    fast = [
        *small,
        "--set=patch_px=16",
        "--set=batch_size=2",
        "--set=precision=float32",
        "--steps=3",
    ]
    plan = tomllib.loads(
        pairfree("train", "noisy", "--clean", "a", "b", "--out", "run", "--dry-run", *fast)
    )
    assert plan["method"] == "iscl"
    assert plan["clean"]["images"] == 2
    assert plan["clean"]["scale"] == plan["data"]["scale"]
    pairfree("train", "noisy", "--clean", "a", "b", "--out", "run", *fast)
    pairfree("denoise", "run", "noisy", "--out", "denoised", "--disagreement", "apart")
    apart = tifffile.imread(tmp_path / "apart/1.tif")
    model, image = pf.load("run"), tifffile.imread(tmp_path / "noisy/1.tif")
    inside = torch.from_numpy(2 * model.predictor.normalizer.apply(image)[None, None] - 1).clamp(
        -1, 1
    )
    with torch.no_grad():
        seen = model.method.transplant(inside)
        first, noise = model.method.ensemble.denoise(seen), model.method.ensemble.extract(seen)
    expected = (
        (first - (seen - noise).clamp(-1, 1)).abs()[0, 0].numpy()
        / 2
        * model.predictor.normalizer.scale
    )
    assert (apart.dtype, apart.shape) == (np.float32, image.shape)
    np.testing.assert_allclose(apart, expected, rtol=1e-3, atol=1e-3 * expected.max())
    found = re.search(r"weights\W+([\d,]+)", pairfree("info", "run"))
    assert found
    assert int(found[1].replace(",", "")) == sum(
        p.numel() for p in model.method.denoiser.parameters()
    )
    assert "2 clean images of other scenes" in (tmp_path / "run/report.html").read_text(
        encoding="utf-8"
    )


def test_the_run_s_config_repeats_the_run(pairfree, no_report, tmp_path):
    """config.toml alone gives the same weights: method, inputs, partners, settings, seed and steps.

    An option beside it wins.
    """
    for name, offset in (("noisy", 0), ("clean", 1)):
        (tmp_path / name).mkdir()
        tifffile.imwrite(
            tmp_path / name / "a.tif",
            scene(0, dtype=np.uint16)
            + np.random.default_rng(offset).integers(0, 99, (48, 56), np.uint16),
        )
    pairfree(
        "train",
        "noisy",
        "--target",
        "clean",
        "--method",
        "n2n",
        "--seed",
        "5",
        "--out",
        "first",
        *FAST,
    )
    pairfree("train", "--config", "first/config.toml", "--out", "second")
    pairfree(
        "train",
        "--config",
        "first/config.toml",
        "--out",
        "third",
        "--seed",
        "6",
        "--set",
        "width=8",
        "--steps",
        "2",
    )
    image = scene(3, dtype=np.uint16)
    first, second, third = (pf.load(tmp_path / name) for name in ("first", "second", "third"))
    np.testing.assert_array_equal(first.denoise(image), second.denoise(image))
    assert (third.record.seed, third.record.config["width"], third.record.step) == (6, 8, 2)


def test_every_kind_of_file_comes_back_as_it_was(pairfree, no_report, tmp_path):
    """Type, shape, axes, spacing and alpha are kept, in sub-folders, too.

    The files are a 16-bit ImageJ stack with spacing, grey + alpha, a JPEG (written as PNG) and
    .npy.
    """
    (tmp_path / "in/sub").mkdir(parents=True)
    stack = np.stack([scene(k, dtype=np.uint16) for k in range(3)])
    how = {"axes": "ZYX", "unit": "um", "spacing": 0.5}
    tifffile.imwrite(
        tmp_path / "in/stack.tif", stack, imagej=True, resolution=(10.0, 10.0), metadata=how
    )
    grey_alpha = np.stack(
        [scene(1), np.random.default_rng(0).integers(0, 256, (48, 56), np.uint8)], -1
    )
    Pillow.fromarray(grey_alpha).save(tmp_path / "in/sub/alpha.png")
    Pillow.fromarray(scene(2)).save(tmp_path / "in/photo.jpg")
    np.save(tmp_path / "in/sub/values.npy", scene(4).astype(np.float64) / 7)
    pairfree("train", "in", "--out", "run", "--method", "n2v", *FAST)
    pairfree("denoise", "run", "in", "--out", "out")
    out = tmp_path / "out"
    written = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.*"))
    assert written == ["photo.png", "stack.tif", "sub/alpha.png", "sub/values.npy"]
    with tifffile.TiffFile(tmp_path / "out/stack.tif") as file:
        series = file.series[0]
        assert (series.axes, series.shape, series.dtype) == ("ZYX", stack.shape, np.uint16)
        assert file.imagej_metadata["spacing"] == 0.5
        assert file.pages[0].resolution == (10.0, 10.0)
    told = pairfree("info", "out/stack.tif")
    for fact in ("Z 0.5", "Y 0.1", "X 0.1"):
        assert fact in told
    np.testing.assert_array_equal(
        np.asarray(Pillow.open(tmp_path / "out/sub/alpha.png"))[..., 1], grey_alpha[..., 1]
    )
    assert np.load(tmp_path / "out/sub/values.npy").dtype == np.float64


def test_colour_files(pairfree, no_report, tmp_path):
    (tmp_path / "in").mkdir()
    colour = np.stack([scene(0), scene(1), scene(2)], -1)
    Pillow.fromarray(colour).save(tmp_path / "in/rgb.png")
    Pillow.fromarray(np.dstack([colour, scene(3)])).save(tmp_path / "in/rgba.png")
    pairfree("train", "in", "--out", "run", "--method", "iddp", *FAST)
    pairfree("denoise", "run", "in/*.png", "--out", "out")
    assert np.asarray(Pillow.open(tmp_path / "out/rgb.png")).shape == colour.shape
    np.testing.assert_array_equal(
        np.asarray(Pillow.open(tmp_path / "out/rgba.png"))[..., 3], scene(3)
    )


def test_warnings_and_clipping_are_told_on_stderr(pairfree, no_report, tmp_path, capsys):
    """A constant image among good ones is a warning in the dry run, not a refusal."""
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/good.npy", scene(0))
    np.save(tmp_path / "in/flat.npy", np.zeros((9, 9), np.uint8))
    sys.argv = ["pairfree", "train", "in", "--dry-run", "--method", "n2v"]
    cli.main()
    assert "flat.npy: all pixels are 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2e9), ("500 MB", 5e8), ("1.5GiB", 1.5 * 2**30), ("4096", 4096), ("1tib", 2**40)],
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "2 bananas", "nan", "2GB2"])
def test_other_sizes_are_refused(text):
    with pytest.raises(InputError, match="`max_bytes`"):
        parse_bytes(text)


def test_demo_ends_with_the_paths_of_what_it_made(pairfree, tmp_path):
    said = pairfree("demo", "--out", "shown", "--minutes", "0.02")
    denoised = sorted((tmp_path / "shown/denoised").glob("*.tif"))
    assert len(denoised) == 4
    assert all(f"denoised: {path.relative_to(tmp_path)}" in said for path in denoised)
    for path in denoised:
        after, noisy = tifffile.imread(path), tifffile.imread(tmp_path / "shown/noisy" / path.name)
        assert (after.dtype, after.shape) == (noisy.dtype, noisy.shape)
    page = (tmp_path / "shown/report.html").read_text()
    assert "report:   shown/report.html" in said
    for words in (
        "IDDP",
        "Achddou",
        "Muon",
        "Ramani",
        "Began from",
        "noise is made even",
        "minutes",
        "Correlation of neighbouring pixels",
    ):
        assert words in page


def test_numbers_that_are_none_are_null_in_json(pairfree, tmp_path):
    """A flat output has no range to tell the noise's dependence on the signal from: NaN, which is no JSON."""
    noise = np.random.default_rng(0).normal(100, 5, (40, 40)).astype(np.uint8)
    for name, pixels in (("noisy", noise), ("denoised", np.full((40, 40), 100, np.uint8))):
        (tmp_path / name).mkdir()
        Pillow.fromarray(pixels).save(tmp_path / name / "flat.png")
    pairfree("evaluate", "--denoised", "denoised", "--noisy", "noisy", "--json", "evidence.json")
    found = json.loads(
        (tmp_path / "evidence.json").read_text(), parse_constant=lambda word: pytest.fail(word)
    )
    assert found["evidence"]["flat"]["gain"] is None
    assert found["evidence"]["flat"]["std"] > 4


def test_transparency_is_not_scored(pairfree, tmp_path):
    rgba = np.dstack([scene(0)] * 3 + [np.full((48, 56), 255, np.uint8)])
    other = rgba.copy()
    other[..., 3] = 0
    for folder, pixels in (
        ("a", rgba),
        ("b", other),
        ("c", rgba[..., :3]),
        ("d", np.roll(rgba, 1, 0)[..., :3]),
        ("e", np.roll(rgba, 1, 0)),
    ):
        (tmp_path / folder).mkdir()
        Pillow.fromarray(pixels).save(tmp_path / folder / "im.png")
    first, second = (
        pf.evaluate(tmp_path / one, tmp_path / two, 255)["im"]
        for one, two in (("d", "c"), ("e", "b"))
    )
    assert first == second
    assert pf.evaluate(tmp_path / "a", tmp_path / "b", 255)["im"].nrmse == 0


def test_a_runs_config_with_another_method_or_preset_takes_those_settings(
    pairfree, tmp_path, no_report
):
    (tmp_path / "noisy").mkdir()
    Pillow.fromarray(scene(0)).save(tmp_path / "noisy/a.png")
    pairfree("train", "noisy", "--out", "run", "--method", "iddp", *FAST)
    said = tomllib.loads(
        pairfree(
            "train", "--config", "run/config.toml", "--method", "n2v", "--out", "run2", "--dry-run"
        )
    )
    assert said["method"] == "n2v"
    assert "alpha" not in said["settings"]
    said = tomllib.loads(
        pairfree(
            "train",
            "--config",
            "run/config.toml",
            "--preset",
            "paper",
            "--out",
            "run2",
            "--dry-run",
        )
    )
    assert said["settings"]["net"] == "unet"


def test_info_tells_about_the_model_of_a_stage(pairfree, tmp_path, no_report):
    (tmp_path / "noisy").mkdir()
    Pillow.fromarray(scene(0)).save(tmp_path / "noisy/a.png")
    pairfree("train", "noisy", "--out", "run", "--method", "iddp", *FAST)
    assert "iddp (preset cpu)" in pairfree("info", "run/stages/warm-start")
    pairfree("denoise", "run/stages/warm-start", "noisy", "--out", "first")
    assert (tmp_path / "first/a.png").is_file()
