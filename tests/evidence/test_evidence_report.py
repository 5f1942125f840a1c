"""The report is one file, with nothing from outside and every string escaped.

Its slider moves in a real browser.
"""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from pairfree.errors import InputError, OutputError
from pairfree.evidence.axes import log_ticks, nice_ticks
from pairfree.evidence.examples import Example, display_window, example_view, zoom_box
from pairfree.evidence.metrics import score
from pairfree.evidence.noref import residual_evidence
from pairfree.evidence.numbers import bind_units
from pairfree.evidence.plots import (
    curves,
    histogram_gauss,
    histogram_pair,
    line_plot,
    png_uri,
    to_uint8,
)
from pairfree.evidence.report import (
    Citation,
    Curve,
    ReportData,
    render_report,
    safe_link,
    write_report,
)
from pairfree.evidence.rows import Row
from pairfree.files.atomic import remove_stale, write_text

EVIL = '<script>alert("x")</script>'
VOID = {"meta", "img", "input", "br", "link"}
UNUSED_IN_A_BROWSER = ["gpu", "quic", "component-update", "sync", "background-networking"]
SECTIONS = [
    "images",
    "histograms",
    "training",
    "evidence",
    "scores",
    "limits",
    "reproduce",
    "methods",
    "environment",
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 % of it, 5 px.", "2_% of it, 5_px."),
        ("squares of 8 × 8 px (1.5 ± 0.2 HU)", "squares of 8_×_8_px (1.5_±_0.2_HU)"),
        ("3 sites, 4 models, 2 minutes", "3 sites, 4 models, 2_minutes"),
        ("frame 3 px.tif", "frame 3 px.tif"),
        (
            '<pre id="a">crop 3 px</pre><p title="3 px">∞ dB</p>',
            '<pre id="a">crop 3 px</pre><p title="3 px">∞_dB</p>',
        ),
        ("<script>1 % 2; 3 %</script>4 %", "<script>1 % 2; 3 %</script>4_%"),
    ],
)
def test_no_line_ends_between_a_number_and_its_unit(text: str, expected: str) -> None:
    assert bind_units(text) == expected.replace("_", "\u00a0")


class Page(HTMLParser):
    """Tags with their attributes, and whether every tag closes in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.found if name == tag]


def full_data() -> ReportData:
    rng = np.random.default_rng(0)
    clean = 100 + 50 * gaussian_filter(rng.standard_normal((96, 80)), 3) * 6
    noisy = clean + rng.normal(0, 20, clean.shape)
    output = gaussian_filter(noisy, 1.5)
    colour, colour_output = np.stack([noisy] * 3, axis=-1), np.stack([output] * 3, axis=-1)
    y, x = np.mgrid[:96, :80]
    invented = clean + 150 * np.exp(-((y - 40) ** 2 + (x - 30) ** 2) / 18)
    tiny = rng.normal(0, 1, (5, 7))
    return ReportData(
        title=f"Run {EVIL}",
        command=f"pairfree train {EVIL} --out run",
        method_key="nb2nb",
        method_title="Neighbor2Neighbor",
        summary=[("Steps", "100"), (EVIL, EVIL)],
        examples=[
            Example(f"{EVIL}.tif", noisy, output, clean, text=EVIL),
            Example("colour.png", colour, colour_output),
            Example("tiny", tiny, tiny * 0),
            Example("same", tiny, tiny),
        ],
        curves=[
            Curve(EVIL, range(5000), rng.uniform(0.1, 1, 5000).tolist(), log_y=True),
            Curve("empty", [], []),
            Curve("one", [1], [2.0]),
        ],
        evidence=[
            (EVIL, residual_evidence(noisy, output)),
            ("b", residual_evidence(noisy, invented)),
        ],
        scores=[(EVIL, score(clean, output, 255)), ("b", None)],
        scores_statement="Data range 255, grey, clipped.",
        noise=[("Model", EVIL)],
        warnings=[EVIL],
        limits=[EVIL],
        environment={"Seed": "0", EVIL: EVIL},
        methods_paragraph=f"We used {EVIL}.\n\nTwice.",
        citations=[
            Citation("a", EVIL, "10.1000/x"),
            Citation("b", "B", "javascript:alert(1)"),
            Citation("c", "C", 'https://x.org/"onload="y'),
        ],
    )


@pytest.fixture(scope="module")
def html() -> str:
    return render_report(full_data())


def test_page_is_well_formed_and_in_order(html: str) -> None:
    page = Page(html)
    assert [a["id"] for a in page.all("section")] == SECTIONS
    assert len(page.all("article")) == 4
    assert (
        len([a for a in page.all("input") if a.get("type") == "range" and a.get("aria-label")]) == 4
    )
    assert all(a.get("alt") for a in page.all("img"))
    assert all(
        a.get("role") == "img" and a.get("aria-label")
        for a in page.all("svg")
        if a.get("class") == "plot"
    )


def test_nothing_is_loaded_from_outside(html: str) -> None:
    page = Page(html)
    links = [a["href"] or "" for a in page.all("a")]
    assert links == ["https://doi.org/10.1000/x", 'https://x.org/"onload="y']
    for tag, attrs in page.found:
        for name in ("src", "srcset", "href", "data", "poster", "xlink:href", "action"):
            value = attrs.get(name)
            assert value is None or tag == "a" or value.startswith("data:image/png;base64,"), (
                tag,
                name,
            )
        assert not any(name.startswith("on") for name in attrs)
    assert not re.search(r"url\(|@import|javascript:(?!alert\(1\)</li>)", html)
    assert not page.all("link")
    assert not page.all("iframe")


def test_every_string_of_the_user_is_escaped(html: str) -> None:
    assert EVIL not in html
    assert html.count("&lt;script&gt;") >= 15
    assert len(Page(html).all("script")) == 1


def test_page_of_nothing_but_a_title_renders() -> None:
    html = render_report(
        ReportData(
            title="Empty", command="pairfree demo", method_key="n2v", method_title="Noise2Void"
        )
    )
    assert [a["id"] for a in Page(html).all("section")] == ["limits", "reproduce"]
    assert "Not examined" in html


def test_verdict_names_the_image_that_stands_out(html: str) -> None:
    verdict = html[html.index('<div class="verdict') : html.index("</header>")]
    assert 'class="verdict warning"' in verdict
    assert "do not support" in verdict


def test_scores_without_their_terms_and_unequal_shapes_are_refused() -> None:
    s = score(np.zeros((16, 16)), np.ones((16, 16)), 255)
    with pytest.raises(InputError, match="scores_statement"):
        render_report(ReportData("t", "c", "k", "m", scores=[("a", s)]))
    with pytest.raises(InputError, match="shape"):
        render_report(
            ReportData(
                "t", "c", "k", "m", examples=[Example("a", np.zeros((8, 8)), np.zeros((8, 9)))]
            )
        )


def test_report_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    data = ReportData("Title µm", "c", "k", "m")
    target = write_report(tmp_path / "report.html", data)
    assert target.read_text(encoding="utf-8") == render_report(data)
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OutputError, match="cannot write the report"):
        write_report(tmp_path / "missing" / "report.html", data)


def test_the_page_has_the_permissions_of_the_other_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_report(tmp_path / "report.html", ReportData("t", "c", "k", "m"))
        write_text(tmp_path / "config.toml", "")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"report.html": 0o640, "config.toml": 0o640}


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_killed_writer_leaves_nothing_under_a_name_that_stays(tmp_path: Path, call: str) -> None:
    """Killed before the page is flushed or gets its name: the next opening of the folder clears it up."""
    target = tmp_path / "report.html"
    target.write_text("the page before")
    code = (
        "import os, signal, sys\n"
        "from pairfree.evidence.report import ReportData, write_report\n"
        f"os.{call} = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_report(sys.argv[1], ReportData('title', 'command', 'iscl', 'ISCL'))\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert target.read_text() == "the page before"
    left = [path for path in tmp_path.iterdir() if path != target]
    assert len(left) == 1
    assert remove_stale(tmp_path) == left
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.parametrize("shape", [(5, 7), (13, 4, 3)])
def test_png_holds_the_same_pixels(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    data = base64.b64decode(png_uri(pixels).removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)


def test_windows_and_ticks() -> None:
    assert to_uint8(np.array([[-1.0, 0, 5, 10, 11]]), 0, 10).tolist() == [[0, 0, 128, 255, 255]]
    assert to_uint8(np.ones((1, 2)), 1, 1).tolist() == [[128, 128]]
    assert nice_ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert log_ticks(0.001, 100) == [0.001, 0.01, 0.1, 1, 10, 100]
    low, high = display_window(np.linspace(0, 100, 1001).reshape(7, -1))
    assert (low, high) == pytest.approx((0.5 - 9.9, 99.5 + 9.9))


def test_zoom_lies_inside_and_finds_the_detail() -> None:
    image = np.zeros((200, 150))
    image[150:160, 100:110] = 1
    y, x, height, width = zoom_box(image)
    assert y <= 150 <= 160 <= y + height <= 200
    assert x <= 100 <= 110 <= x + width <= 150
    for shape in ((1, 1), (3, 50), (17, 16)):
        y, x, height, width = zoom_box(np.zeros(shape))
        assert 0 < height <= shape[0] - y
        assert 0 < width <= shape[1] - x


@pytest.mark.parametrize(
    "y", [[], [float("nan")] * 3, [-1.0, 0.0, 1.0], [1e-30, 1e30, 5.0], [3.0, 3.0, 3.0]]
)
@pytest.mark.parametrize("log_y", [False, True])
def test_plots_survive_any_numbers(y: list[float], log_y: bool) -> None:
    svg = line_plot(list(range(len(y))), y, "loss", log_y=log_y)
    Page(svg)
    assert "nan" not in svg
    assert "inf" not in svg


def test_histograms_survive_constant_images() -> None:
    for svg in (
        histogram_pair(np.ones(9), np.ones(9), ("a", "b"), "l", "x"),
        histogram_gauss(np.zeros(9), ("a", "b"), "l", "x"),
    ):
        Page(svg)
        assert "nan" not in svg


def test_links_are_web_addresses_only() -> None:
    assert safe_link("10.1/x") == "https://doi.org/10.1/x"
    assert safe_link("file:///etc/passwd") == safe_link("data:text/html,x") == safe_link("") == ""


def browser() -> str | None:
    return next(
        (
            path
            for name in ("chromium", "chromium-browser", "google-chrome", "chrome")
            if (path := shutil.which(name))
        ),
        None,
    )


@pytest.mark.skipif(browser() is None, reason="no Chromium on this machine")
def test_slider_moves_in_a_browser_without_a_console_message(html: str, tmp_path: Path) -> None:
    probe = """<script>
    const s = document.querySelector(".slider"), i = s.querySelector("input"), b = document.body.dataset;
    b.before = getComputedStyle(s.querySelector(".after")).clipPath;
    i.value = 80; i.dispatchEvent(new Event("input"));
    b.after = getComputedStyle(s.querySelector(".after")).clipPath;
    s.parentElement.querySelector('button[data-to="0"]').click();
    b.button = getComputedStyle(s.querySelector(".after")).clipPath;
    b.loaded = [...document.images].every(m => m.complete && m.naturalWidth > 0);
    b.wide = document.documentElement.scrollWidth > innerWidth;
    b.focus = (i.focus(), document.activeElement === i);
    </script></body>"""
    page = tmp_path / "report.html"
    page.write_text(html.replace("</body>", probe), encoding="utf-8")
    command = [str(browser()), "--headless", "--no-sandbox", "--no-first-run"]
    command += [f"--disable-{what}" for what in UNUSED_IN_A_BROWSER]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr"]
    command += ["--window-size=500,900", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    body = re.search(r"<body[^>]*>", done.stdout)
    assert body is not None
    for expected in (
        'before="inset(0px 0px 0px 50%)"',
        'after="inset(0px 0px 0px 80%)"',
        'button="inset(0px)"',
        'focus="true"',
        'loaded="true"',
        'wide="false"',
    ):
        assert (
            expected in body.group() or expected.replace("0px)", "0px 0px 0px 0%)") in body.group()
        ), (
            expected,
            body.group(),
        )
    assert "CONSOLE" not in done.stderr


def test_curves_lie_over_one_pair_of_axes() -> None:
    svg = curves(
        {"first <": ([1.0, 2.0], [10.0, 20.0]), "second": ([0.5, 4.0], [20.0, 10.0])},
        "l",
        "minutes",
        "dB",
    )
    root = ElementTree.fromstring(svg)
    lines = [
        [tuple(map(float, p.split(","))) for p in one.attrib["points"].split()]
        for one in root.iter("polyline")
    ]
    (a, b), (c, d) = lines
    assert c[0] < a[0] < b[0] < d[0]  # one axis of x
    assert a[1] == d[1] > b[1] == c[1]  # one of y, upwards
    words = [one.itertext() for one in root.iter("text")]
    assert {"■ first <", "■ second", "minutes", "dB"} <= {"".join(one) for one in words}


def test_where_every_x_of_curves_is_whole_the_ticks_are_whole() -> None:
    svg = curves({"rounds": ([0.0, 1.0, 2.0], [10.0, 20.0, 21.0])}, "l", "round", "dB")
    assert re.findall(r'text-anchor="middle">([^<]+)<', svg) == ["0", "1", "2", "round"]


def test_one_map_stands_for_all_colours_and_one_image_does_not():
    colours = np.random.default_rng(0).uniform(0, 1, (40, 40, 3))
    mapped = Example("a", colours, colours, uncertainty=colours[..., 0])
    assert example_view(mapped)["uncertainty"].startswith("data:image/png")
    with pytest.raises(InputError, match="denoised"):
        example_view(Example("a", colours, colours[..., 0]))


def test_a_verdict_names_options_without_backticks():
    rows = [Row("x", "tests", "warning", "Too sharp.", advice="Denoise again with `correct`.")]
    images = [("a", residual_evidence(*np.random.default_rng(0).normal(100, 9, (2, 64, 64))))]
    page = render_report(ReportData("t", "c", "m", "M", evidence=images, rows=rows))
    assert "Denoise again with correct." in page
    assert "`correct`" not in page
