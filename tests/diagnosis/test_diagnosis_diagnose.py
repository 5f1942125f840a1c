"""A diagnosis of images whose noise is known: signs, numbers, words, and the method that fits."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

import pairfree as pf
from pairfree.diagnosis.choice import RULES
from pairfree.diagnosis.page import render_page
from pairfree.errors import InputError
from pairfree.noise.simulate import add_noise

SIDE = 320


def hills(seed: int = 0) -> np.ndarray:
    """A smooth scene from 20 to 200."""
    rng = np.random.default_rng(seed)
    rough = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 30.0)
    return 20.0 + 180.0 * (rough - rough.min()) / np.ptp(rough)


def white(seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((SIDE, SIDE))


def counts(gain: float, seed: int = 2) -> np.ndarray:
    return gain * np.random.default_rng(seed).poisson(hills(seed) / gain)


def blurred(sigma: float = 0.8) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(3).standard_normal((SIDE + 32, SIDE + 32)), sigma)
    return hills() + 15.0 * (noise / noise.std())[16:-16, 16:-16]


def jpeg() -> np.ndarray:
    buffer = io.BytesIO()
    grey = np.clip(hills() + 10.0 * white(), 0, 255).astype(np.uint8)
    Picture.fromarray(grey).save(buffer, "JPEG", quality=85)
    return np.asarray(Picture.open(buffer))


def lopsided() -> np.ndarray:
    gamma = np.random.default_rng(4).gamma(6.0, 1.0, (SIDE, SIDE))
    return hills() + 8.0 * (gamma - 6.0)


KNOWN = {
    "white": (hills() + 10.0 * white(), set(), "iddp"),
    "counts": (counts(4.0), {"grows"}, "iddp"),
    "shared": (blurred(0.6), {"shared"}, "gan2gan"),
    "rows": (hills() + 10.0 * white() + 5.0 * white()[:, :1], {"rows"}, "iddp"),
    "columns": (hills() + 10.0 * white() + 5.0 * white()[:1], {"columns"}, "iddp"),
    "clipped": (
        np.clip(np.rint(hills() + 20.0 * white()), 40, 170),
        {"clipped_low", "clipped_high"},
        "iddp",
    ),
    "jpeg": (jpeg(), {"jpeg"}, "shipped"),
    "few levels": (16.0 * np.rint((hills() + 8.0 * white()) / 16.0), {"few_levels"}, "iddp"),
    "lopsided": (lopsided(), {"lopsided"}, None),
    "streaks": (
        add_noise(hills(), "charge", np.random.default_rng(5))[0],
        {"streaks"},
        None,
    ),
    "air": (np.maximum(10.0 * hills() - 1600.0, -1000.0) + 20.0 * white(), {"ct"}, None),
}


@pytest.mark.parametrize("name", KNOWN)
def test_signs_are_those_of_the_noise_and_decide_the_method(name):
    noisy, expected, method = KNOWN[name]
    found = pf.diagnose([noisy])
    present = {sign for sign, there in found.facts.signs.items() if there}
    assert present - {"faint"} == expected
    assert found.choice.method == method
    assert found.choice.why in str(found)


def test_level_gain_and_correlation_have_their_values():
    even = pf.diagnose([hills() + 10.0 * white()]).facts.files[0]
    assert even.level.value == pytest.approx(10.0, rel=0.03)
    assert abs(even.level.value - 10.0) < 3.0 * even.level.error
    assert (even.gain.value, even.gain_text, even.reach_px) == (0.0, "0", 0)
    counted = pf.diagnose([counts(4.0)]).facts.files[0]
    assert counted.gain.value == pytest.approx(4.0, rel=0.07)
    assert abs(counted.gain.value - 4.0) < 3.0 * counted.gain.error
    sharing = pf.diagnose([blurred()]).facts.files[0]
    assert sharing.level.value == pytest.approx(15.0, rel=0.15)
    assert sharing.correlation_x == pytest.approx(0.67, abs=0.08)
    assert sharing.reach_px in (2, 3)


def test_words_say_what_was_done_and_what_nobody_knows():
    words = str(pf.diagnose([counts(4.0)]))
    assert "Counted photons or electrons: about 4" in words
    assert "independent from pixel to pixel" in words
    assert "Not to be told" in words
    assert "mean brightness" in words


def test_files_that_differ_are_told():
    found = pf.diagnose([counts(gain, seed) for seed, gain in enumerate((2.0, 2.0, 8.0))])
    assert found.facts.signs["differ"]
    assert any("Files differ in gain" in line for line in found.words)
    alike = pf.diagnose([counts(4.0, seed) for seed in range(3)])
    assert alike.facts.signs["differ"] is False


def test_files_whose_pixels_share_noise_stand_out_among_others():
    found = pf.diagnose([hills() + 10.0 * white(seed) for seed in range(4)] + [blurred()])
    assert found.choice.method == "iddp"
    assert any("in 1 of 5 files neighbouring pixels share it" in line for line in found.words)


def stack(levels: list[float]) -> pf.Image:
    frames = [hills() + level * white(number) for number, level in enumerate(levels)]
    return pf.Image(np.stack(frames).astype(np.float32), "TYX", family="tiff")


@pytest.mark.parametrize(("last", "drifts"), [(10.0, False), (13.0, True)])
def test_drift_over_a_stack(tmp_path, last, drifts):
    pf.save_image(stack(np.linspace(10.0, last, 8).tolist()), tmp_path / "a.tif")
    found = pf.diagnose(tmp_path)
    assert found.facts.signs["drift"] is drifts
    told = [line for line in found.words if "from the first frame to the last" in line]
    assert bool(told) is drifts
    if drifts:
        assert found.facts.files[0].trends["level"] == pytest.approx(0.26, abs=0.05)


def test_channels_are_told_apart(tmp_path):
    channels = np.stack([hills() + 5.0 * white(1), hills() + 20.0 * white(2)])
    pf.save_image(pf.Image(channels.astype(np.float32), "CYX", family="tiff"), tmp_path / "a.tif")
    found = pf.diagnose(tmp_path)
    assert [one.name for one in found.facts.files] == ["a.tif, channel 1", "a.tif, channel 2"]
    assert [round(one.level.value) for one in found.facts.files] == [5, 20]


def test_slow_blotches_are_told_from_several_files():
    def blotchy(seed: int) -> np.ndarray:
        slow = gaussian_filter(white(seed + 50), 6.0)
        return 100.0 + 10.0 * white(seed) + 10.0 * slow / slow.std()

    found = pf.diagnose([blotchy(seed) for seed in range(8)])
    assert found.facts.signs["slow"]
    assert (found.choice.method, found.choice.rule) == ("gan2gan", "blotches")
    assert pf.diagnose([blotchy(seed) for seed in range(3)]).facts.signs["slow"] is None
    plain = pf.diagnose([100.0 + 10.0 * white(seed) for seed in range(5)])
    assert plain.facts.signs["slow"] is False


def test_channels_of_one_picture_do_not_tell_blotches_from_structure():
    slow = gaussian_filter(white(50), 6.0)
    scene = 100.0 + 10.0 * slow / slow.std()
    pictures = [np.stack([scene + 10.0 * white(3 * n + c) for c in range(3)]) for n in range(3)]
    assert pf.diagnose(pictures).facts.signs["slow"] is None


def test_masks_and_constant_images_have_no_noise():
    mask = (hills() > 100).astype(np.uint8) * 255
    found = pf.diagnose([mask, hills() + 10.0 * white()])
    assert len(found.facts.files) == 1
    with pytest.raises(InputError, match="masks of two values"):
        pf.diagnose([mask])


def test_what_may_be_detail_is_no_level_of_noise():
    clean = gaussian_filter(hills() + 30.0 * white(), 1.5)
    assert "at most" in str(pf.diagnose([clean]))


def test_a_pattern_of_the_camera_is_told():
    pattern = 4.0 * white(77)
    found = pf.diagnose([hills(seed) + 8.0 * white(seed) + pattern for seed in range(5)])
    assert found.facts.signs["fixed_pattern"]
    assert any("fixed pattern" in line for line in found.words)


def test_large_planes_are_looked_at_in_parts():
    large = np.tile(hills() + 10.0 * white(), (4, 4))
    found = pf.diagnose([large]).facts.files[0]
    assert found.level.value == pytest.approx(10.0, rel=0.05)


def test_clean_images_of_other_scenes_allow_iscl():
    assert pf.diagnose([lopsided()], clean=True).choice.method == "iscl"


def test_small_images_are_refused_and_left_out():
    with pytest.raises(InputError, match="16 x 16 px"):
        pf.diagnose([np.ones((8, 8)) * np.arange(8)])
    found = pf.diagnose([np.ones((8, 8)) * np.arange(8), hills() + white()])
    assert any("1 of 2 files are left out" in line for line in found.warnings)


def test_pixels_that_are_nan_are_filled():
    noisy = hills() + 10.0 * white()
    noisy[5:9, 5:9] = np.nan
    assert pf.diagnose([noisy]).facts.files[0].level.value == pytest.approx(10.0, rel=0.03)
    with pytest.raises(InputError, match="NaN"):
        pf.diagnose([noisy], nan="error")


def test_all_numbers_go_into_json():
    found = pf.diagnose([blurred(), counts(4.0)])
    stored = json.loads(json.dumps(found.as_dict()))
    assert stored["method"] == found.choice.method
    assert len(stored["files"]) == 2
    assert len(stored["files"][0]["law"]["spectrum"]) == 32


def test_the_page_holds_words_pictures_and_all_files():
    found = pf.diagnose([counts(4.0, seed) for seed in range(3)])
    page = render_page(found, "<cells> & more")
    assert "&lt;cells&gt; &amp; more" in page
    assert page.count("<svg") == 2
    assert "data:image/png" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    for one in found.facts.files:
        assert one.name in page


def test_the_page_has_no_marks_of_options():
    found = pf.diagnose([lopsided()])
    assert "`clean`" in found.advice
    assert "`" not in render_page(found, "plates")


def test_the_last_rule_always_holds():
    assert [rule.name for rule in RULES][-1] == "independent"
    assert len({rule.name for rule in RULES}) == len(RULES)
