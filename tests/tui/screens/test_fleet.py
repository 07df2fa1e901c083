"""The Fleet screen and the page of a node: rows, order, density, heat map, keys, and hostile text."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paceline.engine.events import DeviceReading, Event, NodeReported, Ticked
from paceline.engine.store.reduce import reduce
from paceline.engine.store.state import NodeState, State
from paceline.tui.app import PacelineApp
from paceline.tui.filter import FilterFields, parse_filter
from paceline.tui.messages import View
from paceline.tui.preferences import Preferences
from paceline.tui.screens.fleet import FleetScreen
from paceline.tui.screens.form import JobForm
from paceline.tui.screens.node import NodeScreen
from paceline.tui.theme import PALETTE, THEMES
from paceline.tui.views.drawing.lines import line
from paceline.tui.views.drawing.sorting import Order
from paceline.tui.views.fleet.device_facts import device_fields, device_use
from paceline.tui.views.fleet.heat_map import device_at, heat_lines, heat_map_layout
from paceline.tui.views.fleet.order import FLEET_ORDERS, FleetListing, FleetQuery, device_at_key, device_set, list_devices, row_key
from paceline.tui.views.fleet.rows import fleet_heading, fleet_row, fleet_summary, hidden_line
from paceline.tui.views.node import device_facts, disk_lines, host_lines, network_lines, node_alerts, node_head, process_lines
from paceline.tui.widgets.filter_line import MAX_RECALLED_FILTERS
from paceline.tui.widgets.line_canvas import RowList, changed_regions
from textual.events import MouseScrollDown
from textual.geometry import Region
from textual.pilot import Pilot
from textual.strip import Strip
from textual.widgets import Input

from tests.support.screens import fleets, story
from tests.support.screens.pilots import screen_text, shown, until_app
from tests.tui.test_app import HOSTILE


def state_after(events: list[Event]) -> State:
    """The state after all events."""
    state = State()
    for event in events:
        state = reduce(state, event)
    return state


LAB = state_after(fleets.lab())
CROWD = state_after(fleets.crowd(8, 8))
LARGE = state_after(fleets.crowd(256, 8, 3))


def rows_of(state: State, query: FleetQuery = FleetQuery(), width: int = 160) -> list[str]:  # noqa: B008 (frozen)
    """The rows of the list as text."""
    use, listing = device_use(state), list_devices(state, device_use(state), query)
    return [fleet_row(View(state), use, key, width, is_named=key in listing.named).text for key in listing.keys]


def subject_of(state: State, key: str) -> FilterFields:
    """The values of a row that a filter compares."""
    node, device = device_at_key(state, key)
    assert node is not None
    assert device is not None
    return device_fields(node, device, device_use(state), state.at)


# Rows and their order -----------------------------------------------------------------------------------------------------------


def test_the_worst_comes_first_and_each_node_is_named_once() -> None:
    rows = rows_of(LAB)
    assert [row.split()[1] for row in rows[:7]] == ["lab5", "lab6", "hades", "lab7", "lab3", "nyx", "atlas"]
    assert [row[2:7].strip() for row in rows[7:12]] == ["", "hera", "", "", ""]


@pytest.mark.parametrize("order", FLEET_ORDERS)
@pytest.mark.parametrize("is_reversed", [False, True])
def test_every_order_lists_every_row_with_unknown_values_last(order: str, is_reversed: bool) -> None:
    listing = list_devices(LAB, device_use(LAB), FleetQuery(Order(order, is_reversed)))
    assert sorted(listing.keys) == sorted(list_devices(LAB, device_use(LAB), FleetQuery()).keys)
    assert listing.hidden == 0
    values = {
        "utilization": lambda reading: reading.utilization,
        "temperature": lambda reading: reading.temperature,
        "power": lambda reading: reading.power,
    }
    if order in values:
        devices = [device_at_key(LAB, key)[1] for key in listing.keys]
        known = [value for device in devices if device is not None and (value := values[order](device.reading)) is not None]
        assert known == sorted(known, reverse=not is_reversed)
        assert all(device is None or values[order](device.reading) is None for device in devices[len(known) :])


def test_faults_only_hides_healthy_devices_and_counts_them() -> None:
    listing = list_devices(LAB, device_use(LAB), FleetQuery(is_faults_only=True))
    assert (listing.shown, listing.devices, listing.healthy) == (4, 13, 9)
    assert "+9 healthy devices hidden (x shows them)" in hidden_line(listing, 80).text
    summary = fleet_summary(View(LAB), listing, FleetQuery(is_faults_only=True), 0, "", 78)[0].text
    assert "4 of 13 devices · by trouble · faults only" in summary


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("util<20 & free", ["atlas", "lab1", "lab2", "lab4"]),
        ("job:*", ["lab3", "atlas"]),
        ("node:lab[1-3]", ["lab3", "lab1", "lab2"]),
        ("user:*carol* mem>30GiB", ["hera"]),
        ("throttled | lost", ["lab5", "lab6", "lab3"]),
        ("rank=1", ["lab3"]),
        ("age>5 & stale", ["lab7"]),
        ("clock<1200 & busy", ["lab3"]),
        ("fault !lost", ["hades", "lab7", "lab3"]),
    ],
)
def test_a_filter_lists_the_devices_that_match(text: str, nodes: list[str]) -> None:
    listing = list_devices(LAB, device_use(LAB), FleetQuery(filter_text=text, passes=parse_filter(text)))
    assert list(dict.fromkeys(key.rpartition(" ")[0] for key in listing.keys)) == nodes
    assert listing.filtered == 15 - len(listing.keys)


def test_a_device_is_free_only_if_it_is_known_to_be_unused() -> None:
    flags = {key: subject_of(LAB, key).flags for key in ("atlas 0", "atlas 1", "hera 0", "lab6 0", "lab1 0")}
    assert {key for key, held in flags.items() if "free" in held} == {"atlas 1", "lab1 0"}
    assert {key for key, held in flags.items() if "busy" in held} == {"atlas 0", "hera 0", "lab6 0"}
    device = device_at_key(LAB, "lab1 0")[1]
    assert device is not None
    reading = replace(device.reading, processes=None)
    state = reduce(LAB, NodeReported(at=41.0, node="lab1", devices=(reading,)))
    assert "free" not in rows_of(state, FleetQuery(filter_text="x", passes=parse_filter("node:lab1")))[0]


def test_a_desktop_is_no_user_and_a_rank_of_paceline_is_named() -> None:
    row = next(row for row in rows_of(LAB) if "atlas" in row)
    assert "k7p3xa rank 0" in row
    assert "gnome" not in row


def test_a_low_clock_is_marked_only_on_a_busy_device() -> None:
    rows = rows_of(LAB)
    assert [row.split()[1] for row in rows if "▼" in row] == ["lab3"]
    assert "thermal: −33 % clock" in rows[4]


def test_unknown_is_a_dash_and_a_lost_node_keeps_its_last_values() -> None:
    rows = rows_of(LAB, width=100)
    hades, lab6 = rows[2], rows[1]
    assert hades.count("—") >= 2
    assert "lost: connection reset by peer" in lab6
    assert "1.1 / 6 GiB" in lab6


@pytest.mark.parametrize("width", [40, 78, 119, 120, 158, 198])
def test_every_line_has_exactly_its_width(width: int) -> None:
    for state in (LAB, CROWD):
        use, listing = device_use(state), list_devices(state, device_use(state), FleetQuery())
        lines = [fleet_heading(width, Order("power")), fleet_heading(width), hidden_line(listing, width)]
        lines += [fleet_row(View(state), use, key, width, is_under_cursor=True, is_marked=True) for key in listing.keys]
        lines += fleet_summary(View(state), listing, FleetQuery(filter_text="x" * 99), 3, "heat map", width)
        lines += heat_lines(state, use, width, 20)
        for node in state.nodes.values():
            lines += page(state, node, width, 6) + page(state, node, width, 1)
        assert {line.cell_length for line in lines} == {width}
        assert all(sum(segment.cell_length for segment in line) == width for line in lines)


def page(state: State, node: NodeState, width: int, height: int) -> list[Strip]:
    """All lines on the page of a node."""
    draws = (node_head, host_lines, disk_lines, network_lines, node_alerts)
    lines = [line for draw in draws for line in draw(state, node, width, height)]
    lines += process_lines(state, device_use(state), node, width, height)
    return lines + [line for device in node.devices for line in device_facts(node, device, width, height)]


# Hundreds at once ---------------------------------------------------------------------------------------------------------------


def test_the_form_of_the_heat_map_depends_on_the_room() -> None:
    assert heat_map_layout(CROWD, 158, 40).form == "time"
    assert heat_map_layout(CROWD, 78, 12).form == "now"
    assert heat_map_layout(LARGE, 198, 30).form == "now"
    assert heat_map_layout(LARGE, 78, 12).form == "nodes"


def test_the_heat_map_shows_every_device_of_256_nodes_beside_a_list() -> None:
    lines = [line.text for line in heat_lines(LARGE, device_use(LARGE), 198, 30)]
    cells = sum(text.count(sign) for text in lines[1:] for sign in "▁▂▃▄▅▆▇▲✖·")
    assert cells == 2048
    assert len(lines) <= 21


def test_a_heat_map_that_does_not_fit_counts_hidden_nodes() -> None:
    lines = heat_lines(LARGE, device_use(LARGE), 40, 4)
    assert len(lines) == 4
    assert "+166 nodes hidden" in lines[0].text


@pytest.mark.parametrize(("state", "width", "height"), [(CROWD, 158, 30), (CROWD, 78, 6), (LARGE, 198, 30), (LARGE, 78, 10)])
def test_every_cell_of_the_heat_map_maps_to_its_device(state: State, width: int, height: int) -> None:
    known = set(list_devices(state, device_use(state), FleetQuery()).keys)
    lines = heat_lines(state, device_use(state), width, height)
    keys = [device_at(state, width, height, x, y) for y in range(len(lines)) for x in range(width)]
    assert set(keys) - {None} <= known
    form = heat_map_layout(state, width, height).form
    assert set(keys) - {None} == (known if form != "nodes" else {row_key(name, 0) for name in state.nodes})
    for y, drawn in enumerate(lines[1:], 1):
        for x, sign in enumerate(drawn.text):
            if form == "now" and sign in "▁▂▃▄▅▆▇":
                device = device_at_key(state, device_at(state, width, height, x, y) or "")[1]
                assert device is not None
                assert sign == "▁▂▃▄▅▆▇"[round((device.reading.utilization or 0.0) * 20) * 6 // 20]


async def test_a_click_on_the_heat_map_moves_the_cursor_to_the_device() -> None:
    async with PacelineApp(story.StorySession(fleets.crowd(8, 8, 3), is_replay=True)).run_test(size=(80, 24)) as pilot:
        screen = await fleet(pilot)
        await pilot.click("#heat", offset=(1 + 5 + 2, 1))
        assert screen.query_one(RowList).cursor_key == "n000 2"
        await pilot.click("#heat", offset=(1 + 15 + 5, 1), times=2)
        await until_app(pilot, lambda: isinstance(pilot.app.screen, NodeScreen))
        assert isinstance(pilot.app.screen, NodeScreen)
        assert pilot.app.screen.node == "n001"


def test_only_the_changed_part_of_a_line_is_repainted() -> None:
    def drawn(*texts: str) -> list[Strip]:
        return [line(12, (text, PALETTE.text), ("  ok", PALETTE.dim)) for text in texts]

    before = drawn("97 %", "語 4", "idle", "idle")
    assert changed_regions(before, drawn("95 %", "語 5", "idle", "語!"), 12) == [
        Region(1, 0, 1, 1),
        Region(3, 1, 1, 1),
        Region(0, 3, 8, 1),
    ]
    assert changed_regions(before, before, 12) == []
    assert changed_regions(before, before[:3], 12) is None


@given(st.text("ab語", max_size=6), st.text("ab語", max_size=6), st.booleans())
def test_repainting_the_changed_part_gives_the_new_line(old: str, new: str, is_same_style: bool) -> None:
    before = line(14, (old, PALETTE.text), ("|", PALETTE.dim))
    after = line(14, (new, PALETTE.text if is_same_style else PALETTE.dim), ("|", PALETTE.dim))
    painted = before
    for region in changed_regions([before], [after], 14) or ():
        painted = Strip.join((before.crop(0, region.x), after.crop(region.x, region.right), before.crop(region.right)))
    assert painted.text == after.text


# Hostile text -------------------------------------------------------------------------------------------------------------------

WIDE_TEXT = "語" * 10_000


TEXTS = {"markup": HOSTILE, "wide": WIDE_TEXT, "bidi": "\u202e\u2066abc", "empty": "", "emoji": "👩\u200d👩\u200d👧" * 50}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_hostile_text_in_every_column_keeps_the_width(text: str) -> None:
    state = State()
    for event in fleets.lab():
        fields = ("reason", "hostname", "system", "interface", "hint")
        texts: dict[str, Any] = {name: text for name in fields if hasattr(event, name)}
        event = replace(event, **texts)
        if isinstance(event, NodeReported):
            event = replace(event, devices=tuple(hostile(device, text) for device in event.devices))
            disks = tuple(replace(disk, mount=text) for disk in event.host.disks)
            links = tuple(replace(link, interface=text) for link in event.host.links)
            event = replace(event, host=replace(event.host, disks=disks, links=links))
        state = reduce(state, event)
    state = replace(state, nodes={text + name: replace(node, name=text + name) for name, node in state.nodes.items()})
    use, listing = device_use(state), list_devices(state, device_use(state), FleetQuery(filter_text=text, passes=None))
    for width in (60, 150):
        lines = [fleet_row(View(state), use, key, width) for key in listing.keys]
        lines += fleet_summary(View(state), listing, FleetQuery(filter_text=text), 1, "lines", width) + heat_lines(
            state, use, width, 20
        )
        for node in state.nodes.values():
            lines += page(state, node, width, 5)
        assert {sum(segment.cell_length for segment in line) for line in lines} == {width}
        assert not any(sign in line.text for line in lines for sign in "\x1b\x07\n\u202e\u200b\u2066")


def hostile(device: DeviceReading, text: str) -> DeviceReading:
    """The reading with every text replaced."""
    processes = device.processes and tuple(replace(process, user=text, name=text, run_id=text) for process in device.processes)
    throttle = (text,) if device.throttle else ()
    reading = replace(device, name=text, throttle=throttle, processes=processes, error=device.error and text)
    return replace(reading, holder=text, holder_user=text)


# What the keys do ---------------------------------------------------------------------------------------------------------------


def fleet_of(app: PacelineApp) -> FleetScreen:
    """The Fleet screen, which must be in front."""
    assert isinstance(app.screen, FleetScreen)
    return app.screen


async def fleet(pilot: Pilot[None]) -> FleetScreen:
    """The Fleet screen, once its events are drawn."""
    app = await shown(pilot)
    await app.action_visit("fleet")
    await until_app(pilot, lambda: isinstance(app.screen, FleetScreen) and bool(app.screen.listing.keys))
    return fleet_of(app)


def lab() -> PacelineApp:
    """The app replaying the lab."""
    return PacelineApp(story.StorySession(fleets.lab(), is_replay=True))


async def test_a_filter_applies_while_it_is_typed_and_escape_clears_it() -> None:
    async with lab().run_test(size=(100, 30)) as pilot:
        screen = await fleet(pilot)
        await pilot.press("/", *"util>9")
        await until_app(pilot, lambda: screen.listing.shown == 8)
        await pilot.press(*"0x")
        await until_app(pilot, lambda: "column 6: util is compared with a number" in screen_text(screen.app))
        assert screen.listing.shown == 2, "the last valid filter applies"
        await pilot.press("enter")
        assert screen.has_class("filtering"), "a filter with a syntax error is not accepted"
        await pilot.press("backspace", "enter")
        await until_app(pilot, lambda: not screen.has_class("filtering"))
        assert "/ util>90" in screen_text(screen.app)
        assert "2 of 13 devices" in screen_text(screen.app)
        await pilot.press("escape")
        await until_app(pilot, lambda: not screen.listing.hidden)


async def test_the_last_filters_are_recalled() -> None:
    async with lab().run_test(size=(100, 30)) as pilot:
        screen = await fleet(pilot)
        for text in "abcdefgh"[: MAX_RECALLED_FILTERS + 1]:
            await pilot.press("/", "backspace", text, "enter")
            await until_app(pilot, lambda text=text: screen.filter_text == text)
        await pilot.press("/", *["up"] * (MAX_RECALLED_FILTERS + 2))
        await until_app(pilot, lambda: screen.filter_text == "b")


@pytest.mark.parametrize("size", [(80, 24), (160, 50)], ids=["80x24", "160x50"])
async def test_a_click_on_a_heading_sorts_by_it_and_a_second_click_reverses(size: tuple[int, int]) -> None:
    async with lab().run_test(size=size) as pilot:
        screen = await fleet(pilot)
        heading = fleet_heading(size[0], screen.order).text
        for name, order in (("°C", "temperature"), ("memory", "memory"), ("who", "trouble"), ("node", "node")):
            for is_reversed in (False, True):
                await pilot.click(RowList, offset=(heading.index(name), 0))
                await until_app(pilot, lambda wanted=(order, is_reversed): (screen.order.by, screen.order.is_reversed) == wanted)


async def test_order_reverse_and_faults_have_one_key_each() -> None:
    async with lab().run_test(size=(100, 30)) as pilot:
        screen = await fleet(pilot)
        await pilot.press("o", "o", "r")
        assert (screen.order.by, screen.order.is_reversed) == ("utilization", True)
        assert "by utilization, reversed" in screen_text(screen.app)
        await pilot.press("f")
        assert screen.listing.healthy == 9
        await pilot.press("x")
        assert screen.listing.hidden == 0
        await pilot.press("x")
        await until_app(pilot, lambda: "nothing is hidden" in screen_text(screen.app))


async def test_space_marks_a_device_and_moves_to_the_next() -> None:
    async with lab().run_test(size=(100, 30)) as pilot:
        screen = await fleet(pilot)
        rows = screen.query_one(RowList)
        await pilot.press("j", "space", "space")
        assert screen.host.view.marked == {"lab6 0", "hades 0"}
        assert rows.cursor_key == "lab7 0"
        await until_app(pilot, lambda: "▎2 marked" in screen_text(screen.app))
        await pilot.press("k", "space")
        assert screen.host.view.marked == {"lab6 0"}


async def test_the_form_proposes_the_marked_devices_and_escape_clears_the_marks() -> None:
    async with PacelineApp(story.StorySession(fleets.lab())).run_test(size=(100, 40)) as pilot:
        screen = await fleet(pilot)
        app = screen.app
        assert isinstance(app, PacelineApp)
        await pilot.press("o", "space", "space", "space", "plus")
        await until_app(pilot, lambda: isinstance(app.screen, JobForm))
        marked = app.screen.query_one("#devices", Input).value
        assert marked == device_set(app.view.state, screen.listing.keys[:3])
        assert marked.count(":") >= 2
        await pilot.press("escape", "escape")
        await until_app(pilot, lambda: app.view.marked == frozenset() and app.current_mode == "fleet")


@pytest.mark.slow
async def test_the_density_depends_on_the_number_of_devices_and_on_the_key_d() -> None:
    for events, size, expected in (
        (fleets.lab(), (160, 50), "cards"),
        (fleets.lab(), (80, 24), "lines"),
        (fleets.crowd(8, 8, 3), (160, 50), "lines"),
        (fleets.crowd(8, 8, 3), (80, 24), "heat"),
    ):
        async with PacelineApp(story.StorySession(events, is_replay=True)).run_test(size=size) as pilot:
            screen = await fleet(pilot)
            shown_now = "cards" if screen.has_class("with-cards") else "heat" if screen.has_class("with-heat-map") else "lines"
            assert shown_now == expected
            await pilot.press("d", "d", "d")
            assert screen.density == expected


@pytest.mark.parametrize("events", [fleets.lab(), fleets.crowd(8, 8, 3)], ids=["lab", "64"])
async def test_the_smallest_screen_shows_eight_devices_and_the_keys(events: list[Event]) -> None:
    async with PacelineApp(story.StorySession(events, is_replay=True)).run_test(size=(80, 24)) as pilot:
        screen = await fleet(pilot)
        await pilot.pause()
        assert screen.query_one(RowList).size.height >= 9
        assert "/ filter" in screen_text(screen.app)


async def test_the_mouse_moves_the_cursor_scrolls_and_opens() -> None:
    async with PacelineApp(story.StorySession(fleets.crowd(8, 8, 3), is_replay=True)).run_test(size=(100, 30)) as pilot:
        screen = await fleet(pilot)
        rows = screen.query_one(RowList)
        await pilot.click(RowList, offset=(10, 4))
        assert rows.cursor == 3
        await pilot._post_mouse_events([MouseScrollDown], RowList, offset=(10, 4))
        await until_app(pilot, lambda: rows.scroll_offset.y > 0)
        await pilot.click(RowList, offset=(10, 4), times=2)
        await until_app(pilot, lambda: isinstance(pilot.app.screen, NodeScreen))


async def test_enter_opens_the_page_of_a_node_and_escape_closes_it() -> None:
    async with lab().run_test(size=(160, 50)) as pilot:
        screen = await fleet(pilot)
        await pilot.press("/", *"atlas", "enter", "enter")
        await until_app(pilot, lambda: isinstance(pilot.app.screen, NodeScreen))
        app = screen.app
        assert isinstance(app, PacelineApp)
        await until_app(pilot, lambda: "ECC errors 0" in screen_text(app))
        text = screen_text(app)
        for expected in (
            "10.1.4.7 on enp65s0",
            "up 12 days",
            "/scratch",
            "no answer",
            "10 Gbit/s",
            "gnome-shell",
            "rank 0",
            "Linux",
        ):
            assert expected in text, expected
        await pilot.press("j")
        await until_app(pilot, lambda: "device 1  power 22 of 450 W" in screen_text(app))
        await pilot.press("escape")
        await until_app(pilot, lambda: isinstance(app.screen, FleetScreen))
        assert fleet_of(app).filter_text == "atlas"


async def test_enter_on_the_page_of_a_node_opens_its_run() -> None:
    async with lab().run_test(size=(100, 30)) as pilot:
        await fleet(pilot)
        await pilot.press("/", *"job:*", "enter", "enter")
        await until_app(pilot, lambda: isinstance(pilot.app.screen, NodeScreen))
        await pilot.press("enter")
        await until_app(pilot, lambda: pilot.app.current_mode == "run")


async def test_the_list_is_sorted_at_most_once_a_second() -> None:
    session = story.StorySession(fleets.crowd(4, 2, 3), is_replay=True)
    async with PacelineApp(session).run_test(size=(100, 30)) as pilot:
        screen = await fleet(pilot)
        listing: FleetListing = screen.listing
        session.publish(fleets.crowd_report(0, "n000", 2, 3))
        await until_app(pilot, lambda: screen.host.view.state.events == len(session.events) + 1)
        assert screen.listing is listing
        session.publish(Ticked(at=9.0, clock=fleets.CLOCK + 9))
        await until_app(pilot, lambda: screen.listing is not listing)


async def test_a_new_theme_repaints_every_line() -> None:
    async with lab().run_test(size=(100, 30)) as pilot:
        screen = await fleet(pilot)
        app = screen.app
        assert isinstance(app, PacelineApp)
        try:
            PALETTE.apply(THEMES["day"])
            app.register_theme(THEMES["day"])
            app.theme = "day"
            await pilot.pause()
            strips = app.screen._compositor.render_strips()
            styles = [segment.style for strip in strips for segment in strip if segment.style]
            colours = {style.color.name for style in styles if style.color}
            assert THEMES["night"].foreground not in colours
            assert THEMES["day"].foreground in colours
        finally:
            PALETTE.apply(THEMES["night"])


async def test_ascii_leaves_only_ascii_on_the_screen() -> None:
    app = lab()
    app.preferences = Preferences(ascii=True)
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await fleet(pilot)
        assert screen_text(screen.app).isascii()


# How it looks -------------------------------------------------------------------------------------------------------------------

STORIES: dict[str, Callable[[], list[Event]]] = {
    "lab": fleets.lab,
    "64-devices": lambda: fleets.crowd(8, 8),
    "2048-devices": lambda: fleets.crowd(256, 8, 6),
}
KEYS = {
    "faults": ("lab", ["f"]),
    "filter": ("lab", ["/", *"util<20 & utl<5"]),
    "heat": ("64-devices", ["d"]),
    "node": ("lab", ["/", *"atlas", "enter", "enter"]),
    "node-lost": ("64-devices", ["enter"]),
}
SMALL_ENOUGH = ("2048-devices", "faults", "filter", "heat")
"""Pictures whose large size shows nothing that others of it do not: a soak test."""


@pytest.fixture(autouse=True)
def _one_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        pytest.param(
            name, size, marks=[pytest.mark.slow] * (size == (160, 50) and name in SMALL_ENOUGH), id=f"{name}-{size[0]}x{size[1]}"
        )
        for name in (*STORIES, *KEYS)
        for size in ((80, 24), (160, 50))
    ],
)
def test_the_fleet_looks_as_it_was_approved(name: str, size: tuple[int, int], snap_compare: Callable[..., bool]) -> None:
    plot, keys = KEYS.get(name, (name, []))

    async def press(pilot: Pilot[None]) -> None:
        await fleet(pilot)
        for key in keys:
            await pilot.press(key)
        await pilot.pause()

    app = PacelineApp(story.StorySession(STORIES[plot](), is_replay=True))
    assert snap_compare(app, terminal_size=size, run_before=press)
