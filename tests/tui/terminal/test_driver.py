"""The compact terminal driver: fewer bytes draw the same cells in the same styles."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.tui.terminal.driver import minimize_sgr
from rich.color import ColorSystem
from rich.style import Style
from textual.drivers import linux_driver

ATTRIBUTES = ("bold", "dim", "italic", "underline", "blink", "reverse", "strike", "underline2", "overline")
Cells = list[tuple[str, object]]


def drawn(data: str) -> Cells:
    """A terminal emulator: every character and every other escape sequence with the SGR state it is drawn in."""
    pen: dict[str, str] = {}
    cells: Cells = []
    for escape, text in re.findall(r"(\x1b\[[^A-Za-z]*[A-Za-z])|([^\x1b])", data):
        if not escape.endswith("m"):
            cells.append((escape or text, None if escape.endswith("H") else tuple(sorted(pen.items()))))
            continue
        codes = escape[2:-1].split(";")
        while codes:
            code = int(codes.pop(0) or 0)
            if code in (38, 48):
                parameters = [codes.pop(0) for _ in range(4 if codes[0] == "2" else 2)]
                pen[str(code)] = ";".join(parameters)
            elif code == 0:
                pen.clear()
            elif code in (22, 24):
                for ended in {22: "12", 24: "4U"}[code]:
                    pen.pop(ended, None)
            elif code in (23, 25, 27, 28, 29, 55):
                for ended in ("56",) if code == 25 else (str(code)[1],):
                    for attribute in ended:
                        pen.pop("O" if code == 55 else attribute, None)
            elif code in (39, 49):
                pen.pop(str(code - 1), None)
            elif code >= 30 and code not in (53,):
                pen["38" if code // 10 in (3, 9) else "48"] = str(code)
            else:
                pen[{21: "U", 53: "O"}.get(code, str(code))] = "on"
    return cells


def colours() -> st.SearchStrategy[str | None]:
    return st.sampled_from([None, "red", "bright_blue", "color(123)", "#010203", "#1c242d"])


def _style(fore: str | None, back: str | None, on: set[str]) -> Style:
    attributes: dict[str, Any] = dict.fromkeys(on, True)
    return Style(color=fore, bgcolor=back, **attributes)


def styles() -> st.SearchStrategy[Style]:
    attributes = st.sets(st.sampled_from(ATTRIBUTES), max_size=3)
    return st.builds(_style, colours(), colours(), attributes)


def pieces() -> st.SearchStrategy[str]:
    text = st.text("ab █▇…\n", min_size=1, max_size=3)
    system = st.sampled_from([ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT, ColorSystem.STANDARD])
    other = st.sampled_from(["\x1b[12;40H", "\x1b[?2026h", "\x1b[?2026l", "\x1b[2J"])
    return st.one_of(
        st.builds(lambda content, style, depth: style.render(content, color_system=depth), text, styles(), system), other
    )


@given(st.lists(pieces(), max_size=20).map("".join))
def test_fewer_bytes_draw_the_same(data: str) -> None:
    short = minimize_sgr(data)
    assert drawn(short) == drawn(data)
    assert len(short) <= len(data)


def test_a_row_of_one_background_sends_it_once() -> None:
    row = "".join(Style(color=f"#0000{number:02x}", bgcolor="#1c242d").render("x") for number in range(10))
    assert minimize_sgr(row).count("48;2;28;36;45") == 1
    assert len(minimize_sgr(row)) < len(row) / 1.8


@pytest.mark.parametrize("data", ["\x1b[31mred", "\x1b[58;2;1;2;3mcurly\x1b[0m", "\x1b[38mbroken\x1b[0m", "\x1b[12;3H", "plain"])
def test_output_with_unknown_codes_is_unchanged(data: str) -> None:
    assert minimize_sgr(data) == data


def test_a_byte_of_the_keyboard_that_is_no_text_is_a_sign_and_not_the_end() -> None:
    decode = vars(linux_driver)["getincrementaldecoder"]("utf-8")().decode
    assert decode(b"\xe9") + decode(b"a\xc3") + decode(b"\xa9") + decode(b"\x1b[M \xa2%") == "\ufffda\xe9\x1b[M \ufffd%"
