"""R30: names, metadata and settings with markup, ESC, bidi controls, newlines and bytes that are no UTF-8.

Nothing runs in a page, nothing raw reaches the terminal, a log or JSON, and one line stays one line.
"""

from __future__ import annotations

import json
import logging
import os
import tomllib
import unicodedata
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import tifffile

import pairfree as pf
from pairfree.config import to_toml
from pairfree.errors import InputError
from pairfree.evidence.examples import Example
from pairfree.evidence.report import Citation, Curve, ReportData, render_report
from pairfree.files.messages import shown
from pairfree.plain import one_line

PIXELS = np.random.default_rng(0).integers(0, 200, (48, 48)).astype(np.uint8)
SETTINGS = ["net=dncnn", "width=4", "patch_px=16", "batch_size=2"]
NAMES = [
    "<script>alert(1)<",
    '"><img src=x onerror=alert(1)>',
    "[bold red]x[",
    "[",
    "a\x1b[2J\x1b]0;title\x07",
    "a\nwarning: b",
    "a\r\x85\u2028\u2029b",
    "\u202egnp.exe",
    "\u2066a\x9b31mb\x7f",
    "a\udcffb",
    ":smile: {0} %s",
]
"""Without a suffix; no slash, which no name holds."""
IMAGES = [NAMES[which] for which in (0, 2, 5, 7, 9)]
TEXT = "</script><script>alert(1)</script>[bold]\x1b[2J\u202e\nx\x9b\u2028\x07<img src=x onerror=alert(1)>"
"""Of metadata, which may hold anything."""


def raw_marks(text: str) -> set[str]:
    """What would steer a terminal or break a line, line breaks apart."""
    steering = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return {one for one in text if one != "\n" and unicodedata.category(one) in steering}


class Page(HTMLParser):
    """What of a page could run, and where from it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts, self.handlers, self.addresses = 0, [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag in ("script", "iframe", "object", "embed", "base", "link", "form")
        for name, value in attrs:
            if name.startswith("on"):
                self.handlers.append(name)
            elif name in ("href", "src", "action", "xlink:href"):
                self.addresses.append(str(value))

    def check(self, scripts: int = 1) -> None:
        """Only our own script runs, and images lie in the page."""
        assert self.scripts == scripts
        assert self.handlers == []
        allowed = ("data:image/png;base64,", "https://", "#")
        assert [one for one in self.addresses if not one.startswith(allowed)] == []


@pytest.fixture
def noisy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images with crafted names and metadata; the working folder is beside it."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "noisy"
    folder.mkdir()
    for name in IMAGES:
        tifffile.imwrite("one.tif", PIXELS, metadata={"axes": "YX", "note": TEXT})
        os.replace("one.tif", folder / f"{name}.tif")  # noqa: PTH105 - tifffile opens no such name
    return folder


@pytest.mark.posix
def test_crafted_names_go_through_every_verb(pairfree, noisy: Path, tmp_path: Path) -> None:
    """Nothing is refused, nothing is lost, nothing is left behind."""
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    log = ["--verbose", "--log-file", "log"]
    run = "run \x1b[1m\u202e\n<b>"
    calls = [
        ["train", "noisy", "--out", run, "--method", "n2v", "--steps", "2", *settings, *log],
        ["info", run],
        ["denoise", run, "noisy", "--out", "out", "--report", *log],
        ["denoise", run, "noisy", "--out", "out", "--dry-run", "--overwrite"],
        ["evaluate", "--denoised", "out", "--noisy", "noisy", "--json", "evidence.json"],
        ["evaluate", "--denoised", "out", "--clean", "noisy", "--data-range", "255"],
        ["verify", "noisy", "out", "--any-scale", "--json", "checks.json"],
        *(["info", str(path)] for path in sorted(noisy.iterdir())),
    ]
    told = ""
    for call in calls:
        code, out, err = pairfree(*call)
        assert code == 0, err
        assert raw_marks(out + err) == set(), call
        told += out + err
    made = {path.name for path in Path("out").iterdir()}
    assert made == {*(path.name for path in noisy.iterdir()), "report.html"}
    shown = {f"{one_line(name)}.tif" for name in IMAGES}
    assert {one for one in shown if one not in told} == set()
    lines = Path("log").read_text().splitlines()
    assert [line for line in lines if not line.startswith("20")] == []  # each begins with its time
    written = [Path("log"), Path("evidence.json"), Path("checks.json"), *Path(run).glob("*.*")]
    for path in written:
        assert raw_marks(path.read_text(encoding="utf-8")) == set(), path
    for path in (Path(run, "report.html"), Path("out/report.html")):
        Page(path.read_text(encoding="utf-8")).check()
    assert [path for path in tmp_path.rglob("*") if ".partial-" in path.name] == []


@pytest.mark.posix
@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_messages_on_crafted_names_are_one_line(pairfree, tmp_path: Path, name: str) -> None:
    """Missing, damaged, of a wrong kind; and as the name of a setting, a method, a config."""
    bad = tmp_path / f"{name}.tif"
    bad.write_bytes(b"II*\0")
    config = tmp_path / f"{name}.toml"
    config.write_text("method = '\0")
    calls = [
        ["info", str(bad)],
        ["info", f"no {name}"],
        ["denoise", f"no {name}", str(bad), "--out", str(tmp_path / "out")],
        ["denoise", "shipped", str(bad), "--out", str(tmp_path / "out")],
        ["train", str(bad), "--config", str(config), "--out", str(tmp_path / "run")],
        ["train", str(bad), "--method", name, "--out", str(tmp_path / "run")],
        ["train", str(bad), "--set", f"{name}=1", "--out", str(tmp_path / "run")],
        ["train", str(bad), "--out", f"{bad}/run", "--steps", "1"],
        ["verify", str(bad), str(bad)],
        ["simulate", str(bad), "--noise", name, "--out", str(tmp_path / "out")],
        ["info", "--log-file", f"{tmp_path}/no/{name}", str(bad)],
        [f"no{name}"],
    ]
    for call in calls:
        code, out, err = pairfree(*call)
        assert code == 2
        assert out == ""
        assert raw_marks(err) == set(), call
        assert err.count("\n") == 1, call


def test_metadata_are_told_in_one_line_each(pairfree, tmp_path: Path) -> None:
    """What a file, a run and a checkpoint say of themselves."""
    names = {"Channel": {"Name": [TEXT.replace("\x1b", "").replace("\x07", ""), "b"]}}
    pixels = np.stack([PIXELS, PIXELS])
    tifffile.imwrite(tmp_path / "a.ome.tif", pixels, metadata={"axes": "CYX", **names})
    code, out, err = pairfree("info", str(tmp_path / "a.ome.tif"))
    assert code == 0
    assert raw_marks(out + err) == set()
    assert len([line for line in out.splitlines() if "[bold]" in line]) == 1
    pf.train([PIXELS], method="n2v", steps=1, out=tmp_path / "run", settings={"width": 4})
    facts = {"date": TEXT, TEXT: TEXT}
    (tmp_path / "run/environment.json").write_text(json.dumps(facts))
    (tmp_path / "run/config.toml").write_text(
        to_toml({"method": "n2v", "command": TEXT, "noisy": [TEXT], "settings": {"width": 4}})
    )
    code, out, err = pairfree("info", str(tmp_path / "run"))
    assert code == 0
    assert raw_marks(out + err) == set()
    assert len([line for line in out.splitlines() if "[bold]" in line]) == 3


def test_nothing_of_a_report_runs_whatever_its_fields_hold() -> None:
    page = render_report(
        ReportData(
            title=TEXT,
            command=TEXT,
            method_key=TEXT,
            method_title=TEXT,
            summary=[(TEXT, TEXT)],
            unit=TEXT,
            examples=[Example(TEXT, PIXELS, PIXELS // 2, text=TEXT)],
            curves=[Curve(TEXT, [0.0, 1.0], [1.0, 2.0])],
            noise=[(TEXT, TEXT)],
            warnings=[TEXT],
            limits=[TEXT],
            environment={TEXT: TEXT},
            methods_paragraph=TEXT,
            citations=[
                Citation(TEXT, TEXT, address)
                for address in ("javascript:alert(1)", "10.1/x", f"https://a.b/{TEXT}", TEXT)
            ],
        )
    )
    Page(page).check()
    assert raw_marks(page) == set()


@pytest.mark.parametrize("text", [*NAMES, TEXT])
def test_settings_are_read_back_as_they_were(text: str) -> None:
    """And their file shows no raw mark; bytes that are no text have no place in TOML and are spelled out."""
    words = to_toml({"command": text, "table": {"a": text}})
    assert raw_marks(words) == set()
    read = tomllib.loads(words)
    assert read["command"] == read["table"]["a"] == text.replace("\udcff", "\\udcff")


def test_messages_of_the_library_are_one_line_each(caplog: pytest.LogCaptureFixture) -> None:
    """Also those that nobody but Python's own logging shows, and those of errors."""
    with caplog.at_level(logging.WARNING, "pairfree"):
        logging.getLogger("pairfree").warning("%s: %d", TEXT, 3)
    for words in (caplog.messages[0], str(InputError(TEXT))):
        assert raw_marks(words) == set()
        assert "\n" not in words
        assert "[bold]" in words


def test_a_blank_of_any_width_is_no_mark() -> None:
    assert one_line("1\u202f000 µm\u00a0é 🔬") == "1\u202f000 µm\u00a0é 🔬"
    assert one_line("a\tb\x00") == "a\\tb\\x00"


def test_a_name_is_shown_without_what_acts_on_a_terminal() -> None:
    """Also where a message goes by no terminal of ours, as that of an error in Python."""
    name = "a\x1b[31m\u202eb\n\udcff\x9b.tif"
    assert shown(name) == r"a\x1b[31m\u202eb\n\udcff\x9b.tif"
