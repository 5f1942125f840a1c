"""``method`` auto: what is chosen, what is said and stored of it, and what is refused."""

from __future__ import annotations

import io
import logging

import numpy as np
import pytest
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter

import pairfree as pf
from pairfree.config import parse_set
from pairfree.errors import ConfigError
from pairfree.plain import NOTE
from pairfree.training.job import resolve
from pairfree.training.order import Order, read_order

SIDE = 160
SMALL = {"width": 4, "patch_px": 32, "batch_size": 2}


def hills(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rough = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 20.0)
    return 20.0 + 180.0 * (rough - rough.min()) / np.ptp(rough)


def white(sigma: float = 12.0, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed + 9).standard_normal((SIDE, SIDE))
    return (hills(seed) + sigma * noise).astype(np.float32)


def shared(seed: int = 0) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 0.6)
    return (hills(seed) + 15.0 * noise / noise.std()).astype(np.float32)


def jpeg() -> np.ndarray:
    buffer = io.BytesIO()
    grey = np.clip(white(10.0), 0, 255).astype(np.uint8)
    Picture.fromarray(grey).save(buffer, "JPEG", quality=80)
    return np.asarray(Picture.open(buffer))


def chosen(*noisy: np.ndarray, **options) -> str:
    order = Order(list(noisy), report=False, **{"settings": None, **options})
    return resolve(order).method.key


def test_white_noise_is_for_iddp_and_shared_noise_for_gan2gan():
    assert chosen(white(), white(seed=1)) == "iddp"
    assert chosen(shared(), shared(1)) == "gan2gan"
    assert chosen(white(), method="auto") == "iddp"


def test_jpeg_is_for_the_shipped_network_unless_training_is_asked_for():
    assert chosen(jpeg()) == "shipped"
    assert chosen(jpeg(), minutes=1.0) == "iddp"
    assert chosen(jpeg(), settings={"patch_px": 32}) == "iddp"


def test_clean_images_of_other_scenes_are_for_iscl():
    assert chosen(white(), clean=[hills(5).astype(np.float32)], preset="cpu") == "iscl"


@pytest.mark.parametrize(("partner", "method"), [(hills(), "n2c"), (white(seed=0) + 1.0, "n2n")])
def test_partners_decide_by_their_noise(partner, method):
    assert chosen(white(), target=[partner.astype(np.float32)]) == method


def test_partners_that_are_the_noisy_images_are_refused():
    with pytest.raises(ConfigError, match="noisy images themselves"):
        chosen(white(), target=[white()])


def test_tiny_images_have_the_default():
    tiny = np.random.default_rng(0).normal(size=(12, 12)).astype(np.float32)
    assert chosen(tiny) == "iddp"


def test_lopsided_noise_is_refused_with_what_to_do():
    gamma = np.random.default_rng(4).gamma(6.0, 1.0, (SIDE, SIDE))
    noisy = (hills() + 8.0 * (gamma - 6.0)).astype(np.float32)
    with pytest.raises(
        ConfigError, match=r"no method fits.*clean images of other scenes.*`method`"
    ):
        pf.train([noisy])
    assert pf.train([noisy], method="iddp", steps=2, settings=SMALL, start="none") is not None


def test_the_choice_is_said_and_stored_and_in_the_report(tmp_path, caplog):
    images = tmp_path / "noisy"
    images.mkdir()
    np.save(images / "a.npy", white())
    run = tmp_path / "run"
    with caplog.at_level(NOTE, logger="pairfree"):
        pf.train(images, out=run, steps=2, settings=SMALL, start="none")
    said = [one.getMessage() for one in caplog.records if one.levelno == NOTE]
    assert "It is independent from pixel to pixel." in said
    assert any(line.startswith("method iddp: ") for line in said)
    stored = (run / "config.toml").read_text()
    assert 'method = "iddp"' in stored
    assert "independent from pixel to pixel" in stored
    page = (run / "report.html").read_text()
    assert "Chosen because" in page
    assert "What the noise is like" in page
    assert read_order(run / "config.toml")["method"] == "iddp"


def test_a_run_goes_on_with_what_was_chosen(tmp_path):
    np.save(tmp_path / "a.npy", shared())
    run = tmp_path / "run"
    options = {"settings": {"rule": "wavelet"}, "start": "none", "report": False}
    pf.train(tmp_path / "a.npy", out=run, steps=2, **options)
    model = pf.train(out=run, resume=True, method="auto", report=False)
    assert model.method.key == "gan2gan"


def test_a_named_method_is_not_diagnosed(caplog):
    with caplog.at_level(logging.DEBUG, logger="pairfree"):
        job = resolve(Order([white()], method="n2v"))
    assert job.choice is None


def test_settings_are_those_of_the_method_that_is_chosen():
    order = Order([white()], settings=parse_set(["patch_px=32"]))
    assert resolve(order).config["patch_px"] == 32
