"""What a user gets wrong: one line on stderr, the right exit code, inputs untouched, nothing half-written."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from pairfree import evaluate
from pairfree.evidence.metrics import psnr

FAST = [
    "--set=width=4",
    "--set=patch_px=16",
    "--set=batch_size=2",
    "--set=precision=float32",
    "--steps=2",
    "--method=n2v",
]


def picture(seed=0, shape=(20, 30), dtype=np.uint16):
    return (
        np.random.default_rng(seed)
        .normal(1000 if np.dtype(dtype).itemsize > 1 else 100, 20, shape)
        .astype(dtype)
    )


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working folder with two noisy files; no report, for speed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pairfree.training.report.write_run_report", lambda *_: [])
    (tmp_path / "noisy").mkdir()
    for number in range(2):
        tifffile.imwrite(tmp_path / f"noisy/{number}.tif", picture(number))
    return tmp_path


def digests(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def refused(pairfree, folder):
    def call(*arguments, code=2):
        """The one line of a refusal; asserts that it is one, and that no file appeared, went or changed."""
        before = digests(folder)
        got, out, err = pairfree(*arguments)
        assert got == code, err
        assert out == ""
        assert err.startswith("pairfree: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        assert digests(folder) == before
        return err

    return call


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["noisi"], "did you mean noisy"),
        (["nowhere/at/all"], "no such file"),
        ([], "no noisy images"),
        (["noisy", "--method", "nb2mb"], "did you mean 'nb2nb'"),
        (["noisy", "--preset", "papr"], "did you mean 'paper'"),
        (["noisy", "--set", "patchpx=16"], "did you mean 'patch_px'"),
        (["noisy", "--set", "width"], "expected KEY=VALUE"),
        (["noisy", "--set", "width=four"], "expected a whole number"),
        (["noisy", "--set", "lr=-1"], "must be positive"),
        (["noisy", "--set", "lr=nan"], "expected a finite number"),
        (["noisy", "--minutes", "1", "--steps", "5"], "give --minutes or --steps, not both"),
        (["noisy", "--steps", "0"], "budget"),
        (["noisy", "--steps", "many"], "--steps"),
        (
            ["noisy", "--start", "none", "--steps", "1"],
            "2 stages and needs at least one step for each",
        ),
        (["noisy", "--start", "none", "--steps", "1", "--dry-run"], "2 stages"),
        (["noisy", "--start", "scenes"], "must be one of shipped, none"),
        (["noisy", "--minutes", "nan"], "budget"),
        (["noisy", "--seed", "-1"], "seed"),
        (["noisy", "--seed", "99999999999999999999"], "seed"),
        (["noisy", "--method", "n2c"], "--target"),
        (["noisy", "--method", "n2n"], "--target"),
        (["noisy", "--target", "noisy", "--method", "n2v"], "no use of --target"),
        (["noisy", "--clean", "noisy", "--method", "n2v"], "no use of --clean"),
        (["noisy", "--device", "gpu"], "--device 'gpu': must be auto, cpu or cuda"),
        (["noisy", "--init", "nowhere"], "no such run folder"),
        (["noisy", "--init", "noisy"], "no usable checkpoint"),
        (["noisy", "--config", "missing.toml"], "no such config file"),
        (["--resume"], "not a run folder"),
        (["noisy", "--out", "noisy"], "not empty"),
        (["noisy", "--out", "noisy/0.tif"], "is a file"),
        (["noisy", "--out", "noisy/0.tif/run"], "0.tif"),
        (["noisy", "--stepz", "3"], "--steps"),
    ],
)
def test_train_refuses(arguments, words, refused):
    assert words in refused("train", "--out", "run", *arguments)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("methd = 'n2v'", "did you mean 'method'"),
        ("settings = 5", "settings = 5: expected a table"),
        ("noisy = [", "not readable as TOML"),
        ("[settings]\nlearning = 1", "unknown key 'learning'"),
        ("stage_steps = ['x']", "stage_steps"),
        ("minutes = 1\nsteps = 5", "not both"),
    ],
)
def test_a_wrong_config_file_is_refused(text, words, refused, folder):
    (folder / "my.toml").write_text(text)
    assert words in refused("train", "noisy", "--config", "my.toml", "--out", "run")


def test_an_empty_folder_is_refused(refused, folder):
    (folder / "empty").mkdir()
    assert "holds no image" in refused("train", "empty", "--out", "run")
    assert "holds no image" in refused("denoise", "run", "empty", "--out", "out")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("cut.tif", lambda whole: whole[: len(whole) // 2], "cut.tif"),
        ("empty.tif", lambda whole: b"", "empty.tif"),
        ("text.tif", lambda whole: b"Dear diary", "text.tif"),
        ("lies.png", lambda whole: whole, "lies.png"),
        ("notes.txt", lambda whole: b"x", "is not supported"),
    ],
)
def test_files_that_cannot_be_read_are_named(name, content, words, refused, folder):
    whole = (folder / "noisy/0.tif").read_bytes()
    (folder / name).write_bytes(content(whole))
    assert words in refused("train", "noisy", name, "--out", "run")


def test_pixels_that_cannot_be_learned_from_are_refused(refused, folder):
    bad = picture(0, dtype=np.float32)
    bad[3, 4] = np.nan
    tifffile.imwrite(folder / "nan.tif", bad)
    assert "nan.tif: 1 of 600 pixels are NaN or Inf, the first at row 3, column 4" in refused(
        "train", "nan.tif", "--out", "run"
    )
    tifffile.imwrite(folder / "flat.tif", np.full((20, 20), 7, np.uint16))
    assert "constant" in refused("train", "flat.tif", "--out", "run")
    tifffile.imwrite(
        folder / "colour.tif",
        np.zeros((20, 20, 3), np.uint8) + np.arange(20, dtype=np.uint8)[:, None, None],
        photometric="rgb",
    )
    assert "grey and colour" in refused("train", "noisy", "colour.tif", "--out", "run")


def test_partners_must_match(refused, folder):
    (folder / "clean").mkdir()
    tifffile.imwrite(folder / "clean/0.tif", picture(5))
    assert "no partner" in refused(
        "train", "noisy", "--target", "clean", "--method", "n2c", "--out", "run"
    )
    tifffile.imwrite(folder / "clean/1.tif", picture(6, (9, 9)))
    assert "must be registered" in refused(
        "train", "noisy", "--target", "clean", "--method", "n2c", "--out", "run"
    )


def test_divergence_exits_3_and_names_the_checkpoint(pairfree, folder):
    code, out, err = pairfree(
        "train",
        "noisy",
        "--out",
        "run",
        *FAST[:-2],
        "--method=nb2nb",
        "--steps=40",
        "--set=lr=1e20",
    )
    assert (code, out) == (3, "")
    assert err.count("\n") == 1
    assert "run/checkpoints/step-000000000.json" in err
    assert pairfree("info", "run")[0] == 0


def test_odd_but_usable_images_work(pairfree, folder, caplog):
    """Images smaller than a patch, of several shapes and types, are trained on and denoised.

    Each result has its image's own type.
    """
    tifffile.imwrite(folder / "noisy/tiny.tif", picture(1, (5, 7)))
    tifffile.imwrite(folder / "noisy/float.tif", picture(2, (33, 18), np.float32))
    tifffile.imwrite(folder / "noisy/byte.tif", picture(3, (17, 40), np.uint8))
    code, _, err = pairfree("train", "noisy", "--out", "run", *FAST)
    assert code == 0
    (line,) = err.splitlines()
    assert [f"warning: {record.getMessage()}" for record in caplog.records] == [line]
    assert "warning: noisy images are" in line
    assert "uint8 (byte.tif)" in line
    assert "float32 (float.tif)" in line
    assert "one intensity scale" in line
    code, _, err = pairfree("denoise", "run", "noisy", "--out", "out")
    assert code == 0, err
    for path in (folder / "noisy").iterdir():
        before, after = tifffile.imread(path), tifffile.imread(folder / "out" / path.name)
        assert (before.shape, before.dtype) == (after.shape, after.dtype)


@pytest.fixture
def run(pairfree):
    assert pairfree("train", "noisy", "--out", "run", *FAST)[0] == 0
    return "run"


def test_denoise_refuses(run, refused, folder):
    assert "exists and is not empty" in refused("train", "noisy", "--out", run, *FAST)
    of_images = refused("train", "noisy", "--out", "noisy", *FAST)
    assert "name another folder" in of_images
    assert "--resume" not in of_images
    assert "exists and is not empty" in refused("train", "noisy", "--out", run, "--dry-run", *FAST)
    assert "cannot be changed by --resume: --init" in refused(
        "train", "--out", run, "--resume", "--init", "elsewhere"
    )
    assert "no such run folder" in refused("denoise", "nowhere", "noisy", "--out", "out")
    assert "no usable checkpoint" in refused("denoise", "noisy", "noisy", "--out", "out")
    assert "is an input" in refused("denoise", run, "noisy", "--out", "noisy", "--overwrite")
    assert "inside the output folder" in refused("denoise", run, "noisy", "--out", ".")
    assert "is a file" in refused("denoise", run, "noisy", "--out", "noisy/0.tif")
    assert "--max-memory" in refused(
        "denoise", run, "noisy", "--out", "out", "--max-memory", "lots"
    )
    tifffile.imwrite(folder / "rgb.tif", np.zeros((9, 9, 3), np.uint8), photometric="rgb")
    assert "trained on 1" in refused("denoise", run, "rgb.tif", "--out", "out")
    assert "one denoiser" in refused(
        "denoise", run, "noisy", "--out", "out", "--disagreement", "maps"
    )
    (folder / "sub").mkdir()
    tifffile.imwrite(folder / "sub/0.tif", picture())
    assert "would both be written" in refused(
        "denoise", run, "noisy/0.tif", "sub/0.tif", "--out", "out"
    )


def test_existing_outputs_are_kept_without_overwrite(run, refused, pairfree, folder):
    assert pairfree("denoise", run, "noisy", "--out", "out")[0] == 0
    assert "--overwrite" in refused("denoise", run, "noisy", "--out", "out")
    assert pairfree("denoise", run, "noisy", "--out", "out", "--overwrite")[0] == 0


def test_other_verbs_refuse(refused, run):
    assert "no such file" in refused("info", "nothing.tif")
    assert "not a run folder" in refused("info", "noisy")
    assert "--clean" in refused("evaluate", "--denoised", "noisy")
    assert "--data-range" in refused("evaluate", "--denoised", "noisy", "--clean", "noisy")
    assert "no such file" in refused(
        "evaluate", "--denoised", "nowhere", "--clean", "noisy", "--data-range", "255"
    )
    assert "gausian" in refused("simulate", "noisy", "--noise", "gausian:sigma=25", "--out", "out")
    assert "--noise" in refused("simulate", "noisy", "--out", "out")
    assert "is an input" in refused(
        "simulate", "noisy", "--noise", "gaussian:sigma=25", "--out", "noisy", "--overwrite"
    )
    assert "Did you mean 'train'" in refused("trian")


def test_a_real_process_prints_one_line_and_no_traceback(folder):
    done = subprocess.run(
        [sys.executable, "-m", "pairfree.cli.main", "train", "nowhere", "--out", "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("pairfree: no such file or folder: nowhere")
    assert done.stderr.count("\n") == 1


def test_help_does_not_wait_for_torch():
    code = "import sys; sys.argv = ['pairfree', '--help']\nfrom pairfree.cli.main import main\n"
    code += "try: main()\nfinally: assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "denoise" in done.stdout


def test_progress_is_silent_when_not_a_terminal(pairfree):
    """Nothing but the lines at the end, on stdout; no report was drawn here, so none is named."""
    code, out, err = pairfree("train", "noisy", "--out", "run", *FAST)
    assert (code, err) == (0, "")
    assert [line.split(":")[0] for line in out.splitlines()] == ["run", "next"]
    assert "\x1b" not in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--method=nb2nb"], "--method nb2nb (the run has n2v)"),
        (["--seed=4"], "--seed 4 (the run has 0)"),
        (
            ["--steps=9", "--set=width=8"],
            "--steps 9 (the run has 2), --set width=8 (the run has 4)",
        ),
        (["--minutes=3"], "--minutes 3"),
        (["--max-memory=4GB"], "--max-memory 4000000000.0 (the run has None)"),
        (["--dry-run"], "exclude each other"),
    ],
)
def test_a_resumed_run_cannot_be_given_other_choices(options, words, refused, pairfree):
    assert pairfree("train", "noisy", "--out", "run", *FAST)[0] == 0
    assert words in refused("train", "noisy", "--out", "run", "--resume", *options)


def test_the_same_command_with_resume_added_goes_on(pairfree, folder):
    assert pairfree("train", "noisy", "--out", "run", *FAST)[0] == 0
    assert pairfree("train", "noisy", "--out", "run", *FAST, "--resume")[::2] == (0, "")


def test_a_dry_run_finds_what_the_run_would_refuse(pairfree, refused, folder):
    assert pairfree("train", "noisy", "--out", "run", *FAST)[0] == 0
    bad = picture(0, dtype=np.float32)
    bad[-1, -1] = np.inf
    tifffile.imwrite(folder / "bad.tif", bad)
    assert "bad.tif: 1 of 600 pixels are NaN" in refused(
        "denoise", "run", "bad.tif", "--out", "denoised", "--dry-run"
    )


def test_evaluate_names_the_files_that_do_not_fit(pairfree, refused, folder):
    for name, side in (("one", 40), ("two", 41)):
        (folder / name).mkdir()
        tifffile.imwrite(folder / name / "a.tif", np.ones((40, side), np.float32))
    line = refused("evaluate", "--denoised", "one", "--clean", "two", "--data-range", "255")
    assert "one/a.tif against two/a.tif" in line
    assert "differ in shape" in line
    holed = np.ones((40, 41), np.float32)
    holed[3, 4] = np.nan
    tifffile.imwrite(folder / "one/a.tif", holed)
    line = refused("evaluate", "--denoised", "one", "--noisy", "two")
    assert "one/a.tif against two/a.tif: the denoised image has 1 of 1640 pixels" in line


@pytest.mark.parametrize("minutes", ["0", "-1", "nan"])
def test_a_demo_without_a_budget_copies_nothing(minutes, refused):
    assert "give --minutes above 0" in refused("demo", "--out", "shown", f"--minutes={minutes}")


def test_one_bad_file_of_many_is_refused_before_the_first_is_written(pairfree, refused, folder):
    """NaN in the second file, colour in the third: nothing is written for the first either."""
    assert pairfree("train", "noisy", "--out", "run", *FAST)[0] == 0
    bad = picture(0, dtype=np.float32)
    bad[3, 4] = np.nan
    tifffile.imwrite(folder / "noisy/5.tif", bad)
    assert "5.tif: 1 of 600 pixels are NaN" in refused(
        "denoise", "run", "noisy", "--out", "denoised"
    )
    tifffile.imwrite(folder / "noisy/5.tif", np.zeros((20, 20, 3), np.uint8), photometric="rgb")
    assert "5.tif: has 3 channels, the model was trained on 1" in refused(
        "denoise", "run", "noisy", "--out", "denoised"
    )


def test_notes_of_a_simulation_are_not_overwritten(pairfree, refused, folder):
    assert pairfree("simulate", "noisy", "--noise", "gaussian:sigma=5", "--out", "made")[0] == 0
    for path in (folder / "made").glob("*.tif"):
        path.unlink()
    assert "noise.json: exists already" in refused(
        "simulate", "noisy", "--noise", "gaussian:sigma=5", "--out", "made"
    )


def test_bench_seeds_that_are_no_numbers(refused, folder):
    assert "--seeds '1,b'" in refused("bench", "bsd68", "--seeds", "1,b", "--data", folder)


def test_ctrl_c_outside_training_is_no_success(pairfree, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("pairfree.api.plan_denoising", interrupted)
    code, _, err = pairfree("denoise", "run", "noisy", "--out", "denoised")
    assert code == 130
    assert "stopped" in err


def test_two_files_of_one_name_are_no_partners(refused, folder):
    for site in ("a", "b", "clean"):
        (folder / site).mkdir()
        tifffile.imwrite(folder / site / "1.tif", picture(3))
    words = refused("train", "a", "b", "--target", "clean", "--method", "n2c", "--out", "run")
    assert "share the name '1'" in words


LONG = "x" * 300


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "noisy", "--out", LONG, *FAST),
        ("train", "noisy", "--out", LONG, "--dry-run", *FAST),
        ("info", LONG),
        ("denoise", LONG, "noisy", "--out", "out"),
        ("denoise", "run", "noisy", "--out", LONG),
        ("train", LONG, "--out", "run", *FAST),
        ("demo", "--out", LONG),
    ],
)
def test_names_that_are_too_long_are_one_line(refused, arguments):
    assert "xxx" in refused(*arguments)


def test_a_file_name_that_is_no_text_is_refused_before_training(refused, pairfree, folder):
    name = os.fsdecode(b"caf\xe9.tif")
    (folder / "noisy/0.tif").rename(folder / name)
    assert "caf\\udce9.tif: its name is no UTF-8 text" in refused(
        "train", name, "--out", "run", *FAST
    )
    code, out, _ = pairfree("info", name)
    assert code == 0
    assert "uint16" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["noisy", "--report", "noisy/0.tif"], "is no .html file"),
        (["noisy", "--report", "nowhere/noise.html"], "no such folder"),
        (["noisy", "--json", "noisy/0.tif"], "is no .json file"),
        (["nothing"], "nothing"),
        (["noisy", "--scene", "x"], "--scene"),
    ],
)
def test_diagnose_refuses(refused, arguments, words):
    assert words in refused("diagnose", *arguments)


def test_images_without_smooth_areas_leave_no_run_folder(refused, folder):
    (folder / "stripes").mkdir()
    shared = gaussian_filter(np.random.default_rng(0).normal(0, 30, (160, 160)), 1.0)
    stripes = 1000 + 500 * np.sign(np.sin(np.arange(160) / 3.0)) + shared
    tifffile.imwrite(folder / "stripes/a.tif", stripes.astype(np.uint16))
    arguments = [one for one in FAST if not one.startswith(("--method", "--steps"))] + ["--steps=6"]
    assert "no smooth area" in refused(
        "train", "stripes", "--out", "run", "--method", "gan2gan", *arguments
    )


def test_a_batch_that_does_not_fit_into_memory_is_one_line(pairfree, monkeypatch):
    def allocate(*_, **__):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 1 bytes"
        )

    monkeypatch.setattr("pairfree.methods.n2v.N2V.step", allocate)
    code, _, err = pairfree("train", "noisy", "--out", "run", *FAST)
    assert code == 2
    assert err.startswith(
        "pairfree: out of memory: a training step does not fit; give a smaller batch_size"
    )


def test_too_little_memory_for_one_tile_is_said(refused, pairfree):
    assert pairfree("train", "noisy", "--out", "run", *FAST)[0] == 0
    assert "smallest tile" in refused(
        "denoise", "run", "noisy", "--out", "out", "--max-memory", "10kB"
    )


def test_scores_say_where_black_is_and_how_much_is_clipped(pairfree, folder, caplog):
    (folder / "same").mkdir()
    for number in range(2):
        tifffile.imwrite(folder / f"same/{number}.tif", picture(number))
    code, out, _ = pairfree(
        "evaluate", "--denoised", "same", "--clean", "noisy", "--data-range", "50", "--low", "980"
    )
    assert code == 0
    assert "clipped to 980 .. 1030" in " ".join(out.split())
    assert "of its pixels lie outside 980 .. 1030" in caplog.text


def test_four_samples_are_scored_one_by_one(folder):
    pixels = np.random.default_rng(0).integers(0, 256, (24, 20, 5), dtype=np.uint8)
    for name, change in (("a", 0), ("b", 3)):
        (folder / name).mkdir()
        tifffile.imwrite(
            folder / name / "0.tif",
            np.clip(pixels.astype(int) + change, 0, 255).astype(np.uint8),
            planarconfig="contig",
        )
    each = [
        psnr(pixels[..., k], tifffile.imread(folder / "b/0.tif")[..., k], 255.0) for k in range(5)
    ]
    assert evaluate(folder / "b", folder / "a", 255.0)["0"].psnr_db == pytest.approx(np.mean(each))
