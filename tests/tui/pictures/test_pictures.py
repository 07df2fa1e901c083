"""Pictures: cells become pixels in their colours, lines meet between cells, files are written once, what is missing is named."""

from __future__ import annotations

import json
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
from paceline.engine.errors import UsageError
from paceline.engine.events import InventoryRead, Ticked
from paceline.tui import run_tui
from paceline.tui.app import PacelineApp
from paceline.tui.command_line.cli import main
from paceline.tui.pictures import raster
from paceline.tui.pictures.draw import gif_bytes, png_bytes
from paceline.tui.pictures.moment import MomentSession, after, at_second
from rich.segment import Segment
from rich.style import Style

from tests.support.installed import needs
from tests.support.places import CHECKOUT
from tests.support.screens import story
from tests.support.screens.pilots import screen_text, until_app

KEPT = CHECKOUT / "data" / "demo" / "reference-lab.jsonl"
GROUND = (14, 18, 23)
drawable = needs("PIL", "matplotlib")


def size_of_png(data: bytes) -> tuple[int, int]:
    """Width and height, as the header of the file says."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@drawable
def test_characters_blocks_and_lines_are_drawn_in_their_cells() -> None:
    rows = [
        [Segment("█", Style.parse("#ff0000")), Segment(" ", Style.parse("on #00ff00")), Segment("a", Style.parse("bold #0000ff"))],
        [Segment("──", Style.parse("#ffffff")), Segment("⣿", Style.parse("#ff00ff"))],
        [Segment("▁", Style.parse("#ffff00")), Segment(" x", Style.parse("reverse #123456"))],
    ]
    image = raster.draw(rows, 3, GROUND)
    width, height = image.size[0] // 3, image.size[1] // 3
    assert image.getpixel((width // 2, height // 2)) == (255, 0, 0)
    assert image.getpixel((width + 1, 1)) == (0, 255, 0)
    letter = image.crop((2 * width, 0, 3 * width, height))
    assert max(blue for _, (_, _, blue) in letter.getcolors(999)) > 150
    middle = [image.getpixel((x, height + height // 2)) for x in range(2 * width)]
    assert middle == [(255, 255, 255)] * (2 * width), "a line goes through from cell to cell"
    dots = image.crop((2 * width, height, 3 * width, 2 * height)).getcolors(999)
    assert {color: amount for amount, color in dots}[(255, 0, 255)] >= 16
    assert image.getpixel((1, 3 * height - 1)) == (255, 255, 0)
    assert image.getpixel((1, 2 * height + 2)) == GROUND
    assert image.getpixel((width + 1, 2 * height + 1)) == (0x12, 0x34, 0x56)


@drawable
def test_every_sign_that_the_screens_draw_is_no_empty_box() -> None:
    def pixels(text: str) -> bytes:
        return bytes(raster.draw([[Segment(text, Style.parse("#ffffff"))]], 1, GROUND).tobytes())

    unknown, empty = pixels("\U000f1234"), pixels(" ")
    signs = "●✔▶↻◌■▲▼✖·◇▁▂▃▄▅▆▇█▏▎▍▌▋▊▉░▒▓▀┈┊━─╸│┃┌┐└┘├┤┬┴┼╭╮╰╯←↑→↓—–×−±°µ…“”’‹›⠁⣀⣿"
    drawn = {sign: pixels(sign) for sign in signs}
    assert [sign for sign in signs if drawn[sign] in (unknown, empty)] == []
    assert len(set(drawn.values())) >= len(signs) - 6  # some lines of different names look alike, such as round corners


@drawable
def test_an_animation_shows_each_frame_for_its_time_in_colours_that_stay() -> None:
    import io

    from PIL import Image

    colors = ["#ff0000", "#00ff00", "#0000ff"]
    frames = [(raster.draw([[Segment("█ ", Style.parse(color))]], 2, GROUND), 0.5 + n) for n, color in enumerate(colors)]
    data = gif_bytes(frames)
    assert data.startswith(b"GIF89a")
    shown = Image.open(io.BytesIO(data))
    assert shown.n_frames == 3
    for number, wanted in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255)]):
        shown.seek(number)
        assert shown.info["duration"] == 500 + 1000 * number
        red, green, blue = shown.convert("RGB").getpixel((2, 5))
        assert (red, green, blue) == wanted
    assert size_of_png(png_bytes(frames[0][0])) == frames[0][0].size


def test_a_moment_is_a_second_an_event_or_the_end() -> None:
    session = MomentSession(KEPT, at_second(2.0))
    assert 2.0 <= session.state.at < 3.5
    assert isinstance(session.inventory, InventoryRead)
    first = MomentSession(KEPT, after(Ticked, 1.0))
    assert 1.0 <= first.state.at < 3.0
    with pytest.raises(UsageError, match="never comes to that moment"):
        MomentSession(KEPT, at_second(1e6))


@pytest.mark.parametrize("suffix", ["svg", pytest.param("png", marks=[drawable, pytest.mark.slow])])
def test_a_shell_draws_a_moment_of_a_recording_without_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    path = tmp_path / f"x.{suffix}"
    words = ["--json", "picture", str(path), "--of", str(KEPT), "--at", "3", "--screen", "fleet", "--size", "80x24"]
    assert main(words, open_screen=run_tui.run) == 0
    document = json.loads(capsys.readouterr().out)
    assert {name: document[name] for name in ("type", "file", "screen", "columns", "lines")} == {
        "type": "picture",
        "file": str(path),
        "screen": "fleet",
        "columns": 80,
        "lines": 24,
    }
    assert 3.0 <= document["at"] < 5.0
    data = path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
    if suffix == "svg":
        assert b"demo4" in data
    else:
        assert size_of_png(data) == (80 * 9, 24 * 18)
    assert main(words, open_screen=run_tui.run) == 2, "no file is replaced"
    assert "exists already" in capsys.readouterr().err
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("x.jpeg", "--of", str(KEPT)), "no picture of that kind (a name that ends in .svg or .png)"),
        (("x.svg",), "of which recording?"),
        (("x.svg", "--of", str(KEPT), "--screen", "moon"), "no screen 'moon'"),
        (("x.svg", "--of", str(KEPT), "--at", "noon"), "not a moment: noon"),
        (("x.svg", "--of", str(KEPT), "--size", "10x10"), "expected columns and lines such as 132x42"),
        (("x.svg", "--of", "nothing-there"), "nothing-there"),
    ],
)
def test_a_picture_that_cannot_be_drawn_is_refused_in_one_line(
    words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["picture", *words], open_screen=run_tui.run) == 2
    out, error = capsys.readouterr()
    assert (out, error.count("\n")) == ("", 1)
    assert told in error
    assert list(tmp_path.iterdir()) == []


def test_without_font_or_library_a_png_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    raster._tools.cache_clear()
    monkeypatch.setattr(raster, "SYSTEM_FONTS", ())
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs (the font DejaVuSansMono\.ttf|Pillow)") as refused:
        raster.draw([[Segment("x")]], 1, GROUND)
    assert "paceline[reports]" in str(refused.value)


async def test_a_key_and_a_command_save_the_screen_in_front(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with PacelineApp(story.StorySession([story.inventory()])).run_test() as pilot:
        app = pilot.app
        assert isinstance(app, PacelineApp)
        app.execute("picture mine.svg")
        await until_app(pilot, lambda: "saved mine.svg in" in screen_text(app))
        app.execute("picture mine.svg")
        await until_app(pilot, lambda: "exists already" in screen_text(app))
        app.execute("picture mine.bmp")
        await until_app(pilot, lambda: "no picture of that kind" in screen_text(app))
        if find_spec("PIL") and find_spec("matplotlib"):
            await pilot.press("f12")
            await until_app(pilot, lambda: "saved paceline-fleet-" in screen_text(app))
            (png,) = tmp_path.glob("*.png")
            assert png.with_suffix(".svg").exists()
            assert size_of_png(png.read_bytes()) == (80 * 9, 24 * 18)
