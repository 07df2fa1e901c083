"""Actions: every command is reachable from prompt, palette, help and keys, and respects the preferences."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from paceline.engine.errors import ConfigurationError, NodeUnreachable, NotProfiled, UsageError
from paceline.engine.events import Event, NodeReported, ProcessReading
from paceline.tui.app import PacelineApp, every_binding
from paceline.tui.command_line.cli import build_parser
from paceline.tui.command_line.commands import VERBS, check_allowed, parse, verb_of
from paceline.tui.keymap import EVERYWHERE, check_keys, key_label
from paceline.tui.palette import PaletteCommands
from paceline.tui.preferences import Preferences
from paceline.tui.prompt_history import PromptHistory
from paceline.tui.screens.base_screen import BaseScreen
from paceline.tui.screens.dialogs import ConfirmModal, HelpPage, ResultPage
from paceline.tui.screens.form import JobForm
from paceline.tui.screens.node import NodeScreen
from paceline.tui.sessions.session import Answer
from paceline.tui.theme import PALETTE, THEMES
from paceline.tui.widgets.prompt import Prompt
from textual.binding import Binding
from textual.command import CommandPalette
from textual.events import Key
from textual.pilot import Pilot
from textual.widgets import Input, Select, Static

from tests.support.screens import story
from tests.support.screens.pilots import screen_text, until_app
from tests.support.screens.pilots import shown as drawn
from tests.tui.test_app import HOSTILE, help_text

NAMES = {":": "colon", "/": "slash", " ": "space"}
CASE = {
    "policy": "hybrid",
    "predicted_samples_per_second": 900.0,
    "expected_samples_per_second": 872.0,
    "expected_seconds": 61.0,
    "as_measured_in": "20260101-0000-aaaaaa",
}
PLAN: dict[str, Any] = {
    **{
        "type": "plan",
        "workload": "digits-cnn",
        "emulated": True,
        "backend": "gloo",
        "epochs": 8,
        "steps_per_epoch": 4,
        "global_batch_size": 384,
    },
    **{"compression": "none", "local_steps": 1, "emulated_network": False, "declared_link": None},
    **{"data": {"source": "made up"}, "samples_per_epoch": 1437, "devices": [], "cases": [CASE]},
}


class Obedient(story.StorySession):
    """Reads every line as a live session does, and knows one plan."""

    def __init__(self, events: list[Event], is_read_only: bool = False) -> None:
        super().__init__(events)
        self.is_read_only = is_read_only

    async def perform(self, line: str) -> Answer | None:
        verb, args = parse(line)
        check_allowed(verb, args, self.is_read_only)
        self.asked.append(line)
        return Answer("plan", PLAN) if verb.name == "plan" else None


def going_on() -> list[Event]:
    return [event for event in story.healthy() if event.at < 40]


def words_of(verb: str) -> list[str]:
    """A line that the verb understands."""
    return [verb, *("7" for argument in VERBS[verb].arguments if argument.is_required)]


# Everywhere ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("screen", "typed", "line"), [("1", ":jobs e", "#prompt"), ("3", ":jobs e", "#prompt"), ("1", "/e C", "#filter Input")]
)
async def test_what_arrives_with_the_key_that_opens_a_line_is_typed_into_it(screen: str, typed: str, line: str) -> None:
    app = PacelineApp(Obedient(story.healthy()))
    async with app.run_test(size=(160, 50)) as pilot:
        await pilot.press(screen)
        await until_app(pilot, lambda: app.view.state is app.session.state)
        for sign in typed:  # as one packet of a slow link brings them: nobody waits in between
            app.post_message(Key(NAMES.get(sign, sign), sign))
        await until_app(pilot, lambda: app.screen.query_one(line, Input).value == typed[1:])
        assert app.screen_stack[-1].query_one(line, Input).has_focus
        await pilot.press("colon", "slash")
        assert app.screen.query_one(line, Input).value == f"{typed[1:]}:/"


async def test_every_verb_is_found_by_prompt_palette_help_and_batch() -> None:
    async with PacelineApp(Obedient([story.inventory()])).run_test(size=(160, 50)) as pilot:
        app = await drawn(pilot)
        await pilot.press("?")
        await until_app(pilot, lambda: isinstance(app.screen, HelpPage))
        assert isinstance(app.screen, HelpPage)
        told = help_text(app.screen)
        named = {name: summary for name, summary, _ in PaletteCommands(app.screen).entries()}
        places = {
            verb.name: {
                "prompt": parse(shlex.join(words_of(verb.name)))[0] is verb and verb.name in app.completions(verb.name[:1]),
                "short words": all(verb_of(word) is verb for word in verb.aliases),
                "palette": verb.summary in named.get(verb.name, ""),
                "help": verb.summary in " ".join(told.split()) and all(word in told for word in verb.aliases),
                "batch": build_parser().parse_args(["--batch", *words_of(verb.name)]).verb == verb.name,
            }
            for verb in VERBS.values()
        }
        assert {name: found for name, found in places.items() if not all(found.values())} == {}


async def test_every_key_is_in_the_help_and_every_general_one_in_the_palette() -> None:
    async with PacelineApp(Obedient([story.inventory()])).run_test() as pilot:
        app = await drawn(pilot)
        told = []
        for mode in (*app.MODES, "node"):
            await (app.push_screen(NodeScreen("demo1")) if mode == "node" else app.action_visit(mode))
            await pilot.press("?")
            await until_app(pilot, lambda: isinstance(app.screen, HelpPage))
            assert isinstance(app.screen, HelpPage)
            told.append(" ".join(help_text(app.screen).split()))
            await pilot.press("escape")
        text = "\n".join(told)
        assert [binding.id for binding in every_binding() if " ".join(binding.description.split()) not in text] == []
        named = {summary for _, summary, _ in PaletteCommands(app.screen).entries()}
        assert {b.description for b in EVERYWHERE if b.id and not b.action.startswith("visit")} - named == {
            "find any command by its name"
        }


def test_every_binding_can_be_named_in_a_key_map() -> None:
    named = [binding.id for binding in every_binding() if binding.show]
    assert None not in named
    assert len(named) == len(set(named))


async def test_the_footer_names_only_keys_that_do_what_it_says() -> None:
    async with PacelineApp(Obedient([story.inventory()])).run_test() as pilot:
        app = await drawn(pilot)
        for mode in app.MODES:
            await app.action_visit(mode)
            known = app.key_map.bindings_of(type(app.screen))
            assert isinstance(app.screen, BaseScreen)
            assert [name for name, _ in app.screen.FOOTER_KEYS if name not in known] == [], mode


async def test_the_palette_does_what_is_chosen() -> None:
    session = Obedient([story.inventory()])
    async with PacelineApp(session).run_test() as pilot:
        app = await drawn(pilot)
        await pilot.press("ctrl+p")
        await until_app(pilot, lambda: isinstance(app.screen, CommandPalette))
        await pilot.press(*"theme day")
        await until_app(pilot, lambda: app.screen.query("CommandList").first().option_count == 1)  # type: ignore[attr-defined]  # Textual exports no CommandList
        await pilot.press("enter")
        await until_app(pilot, lambda: app.theme == "day")


async def test_the_palette_asks_for_the_words_of_a_verb_that_acts() -> None:
    session = Obedient([story.inventory()])
    async with PacelineApp(session).run_test() as pilot:
        app = await drawn(pilot)
        deeds = {name: deed for name, _, deed in PaletteCommands(app.screen).entries()}
        deeds["bench"]()
        await until_app(pilot, lambda: app.screen.query_one(Prompt).has_focus)
        assert app.screen.query_one(Prompt).value == "bench "
        assert session.asked == []


# The prompt ---------------------------------------------------------------------------------------------------------------------


async def test_tab_goes_through_what_a_line_may_become_and_back_to_what_was_typed() -> None:
    async with PacelineApp(Obedient(going_on())).run_test() as pilot:
        app = await drawn(pilot)
        await pilot.press(":", *"canc", "tab")
        prompt = app.screen.query_one(Prompt)
        assert prompt.value == "cancel"
        await pilot.press("space", "tab")
        assert prompt.value == f"cancel {story.RUN}"
        await pilot.press("tab")
        assert prompt.value == "cancel "
        await pilot.press("shift+tab")
        assert prompt.value == f"cancel {story.RUN}"


async def test_the_first_continuation_stands_faint_behind_the_cursor() -> None:
    async with PacelineApp(Obedient([story.inventory()])).run_test() as pilot:
        app = await drawn(pilot)
        await pilot.press(":", *"ben")
        prompt = app.screen.query_one(Prompt)
        await until_app(pilot, lambda: prompt._suggestion == "bench")
        await pilot.press("right")
        assert prompt.value == "bench"


async def test_what_was_typed_is_there_in_the_next_session_and_secrets_are_not(tmp_path: Path) -> None:
    path = tmp_path / "state" / "history"
    lines = ("attach r1", "train --on-end 'curl -H x'", "status")
    async with PacelineApp(Obedient([story.inventory()]), history=PromptHistory(path)).run_test() as pilot:
        for line in lines:
            await pilot.press(":")
            pilot.app.screen.query_one(Prompt).value = line
            await pilot.press("enter")
            await until_app(pilot, lambda: not pilot.app.screen.has_class("asking"))
    assert PromptHistory(path).lines == ["attach r1", "status"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_hundred_lines_are_kept_each_once(tmp_path: Path) -> None:
    past = PromptHistory(tmp_path / "history")
    for number in [*range(300), 5]:
        past.add(f"attach run-{number}")
    again = PromptHistory(tmp_path / "history").lines
    assert len(again) == 200
    assert again[-1] == "attach run-5"


def test_a_history_of_somebody_else_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "history").write_bytes(b"\xff\xfe\x00")
    assert PromptHistory(tmp_path / "history").lines == []


async def test_screens_and_answers_are_reached_by_their_words() -> None:
    async with PacelineApp(Obedient(going_on())).run_test(size=(100, 30)) as pilot:
        app = await drawn(pilot)
        for line, mode in (("alerts", "alerts"), ("results", "results"), (f"logs {story.RUN}", "logs"), ("run", "run")):
            app.execute(line)
            await until_app(pilot, lambda mode=mode: app.current_mode == mode)
        app.execute("plan")
        await until_app(pilot, lambda: isinstance(app.screen, ResultPage))
        assert "872 samples/s, 1:01 expected" in screen_text(app)


async def test_an_answer_of_strangers_words_is_harmless() -> None:
    async with PacelineApp(Obedient([])).run_test(size=(100, 30)) as pilot:
        app = await drawn(pilot)
        app.push_screen(ResultPage(VERBS["plan"].name, f"{HOSTILE}\n{HOSTILE}"))
        await until_app(pilot, lambda: isinstance(app.screen, ResultPage))
        assert not {"\x1b", "\x07", "\u202e", "\u200b"} & set(screen_text(app))


# What a person prefers ----------------------------------------------------------------------------------------------------------


async def test_a_theme_is_put_on_live_on_every_screen() -> None:
    async with PacelineApp(Obedient(going_on())).run_test() as pilot:
        app = await drawn(pilot)
        for mode in app.MODES:
            await app.action_visit(mode)
        for name in (*list(THEMES)[1:], next(iter(THEMES))):
            app.execute(f"theme {name}")
            for mode in app.MODES:
                await app.action_visit(mode)
                await pilot.pause()
                styles = [segment.style for strip in app.screen._compositor.render_strips() for segment in strip if segment.style]
                others = {str(theme.foreground) for theme in THEMES.values()} - {
                    str(THEMES[name].foreground),
                    THEMES[name].variables["strong"],
                }
                seen = {style.color.name for style in styles if style.color}
                assert PALETTE.dim.color is not None
                assert PALETTE.dim.color.name in seen
                assert not others & seen


async def test_an_unknown_theme_is_told_with_those_there_are() -> None:
    async with PacelineApp(Obedient([story.inventory()])).run_test() as pilot:
        app = await drawn(pilot)
        app.execute("theme sunny")
        await until_app(pilot, lambda: "no theme 'sunny'; there are night, day" in screen_text(app))


async def test_keys_of_a_key_map_work_and_ctrl_c_always_leaves() -> None:
    preferences = Preferences(keys={"alerts": "f2", "quit": "X", "help": "f5"})
    async with PacelineApp(Obedient([story.inventory()]), preferences).run_test() as pilot:
        app = await drawn(pilot)
        await pilot.press("4", "q")
        assert app.current_mode == "fleet"
        await pilot.press("f2")
        await until_app(pilot, lambda: app.current_mode == "alerts")
        assert "X quit" in screen_text(app)
        await pilot.press("f5")
        await until_app(pilot, lambda: isinstance(app.screen, HelpPage))
        assert isinstance(app.screen, HelpPage)
        assert "F2 " in help_text(app.screen)
        await pilot.press("escape", "ctrl+c")
    assert app.return_code == 0


@pytest.mark.parametrize(("wanted", "told"), [("ctrl+c", "always leaves"), ("f2,banana", "no key 'banana'"), ("", "no key ''")])
def test_a_key_that_cannot_be_is_refused(wanted: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        check_keys({"alerts": wanted}, "config.toml")


@pytest.mark.parametrize("binding", every_binding(), ids=lambda binding: binding.id)
def test_every_usual_key_could_stand_in_a_key_map(binding: Binding) -> None:
    if binding.id:
        check_keys({binding.id: binding.key}, "config.toml")
        assert all(key_label(key) for key in binding.key.split(","))


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_a_read_only_session_refuses_exactly_what_acts(verb: Any) -> None:
    _, args = parse(shlex.join([*words_of(verb.name), *(["--yes"] if verb.needs_consent else [])]))
    check_allowed(verb, args, is_read_only=False)
    if verb.acts:
        with pytest.raises(UsageError, match="read-only"):
            check_allowed(verb, args, is_read_only=True)
    else:
        check_allowed(verb, args, is_read_only=True)


def test_clean_that_only_tells_is_allowed_where_nothing_may_be_done() -> None:
    verb, args = parse("clean")
    check_allowed(verb, args, is_read_only=True)


async def test_a_read_only_session_offers_neither_start_nor_cancel() -> None:
    session = Obedient(going_on(), is_read_only=True)
    async with PacelineApp(session, Preferences(read_only=True)).run_test() as pilot:
        app = await drawn(pilot)
        for key in ("t", "C"):
            await pilot.press(key)
            await until_app(pilot, lambda: "this session is read-only" in screen_text(app))
            app.notice = None
        app.execute("bench")
        await until_app(pilot, lambda: "bench is refused" in screen_text(app))
        assert session.asked == []
        assert "read-only" in {name: summary for name, summary, _ in PaletteCommands(app.screen).entries()}["train"]


# The form and the question ------------------------------------------------------------------------------------------------------


async def until_planned(pilot: Pilot[None]) -> None:
    await until_app(pilot, lambda: "872" in str(pilot.app.screen.query_one("#plan", Static).content))


async def test_the_form_shows_plan_and_prediction_and_then_launches() -> None:
    session = Obedient([story.inventory()])
    async with PacelineApp(session).run_test(size=(80, 24)) as pilot:
        app = await drawn(pilot)
        await pilot.press("t")
        await until_app(pilot, lambda: isinstance(app.screen, JobForm))
        await until_planned(pilot)
        assert "1:01 expected" in screen_text(app)
        app.screen.query_one("#epochs", Input).value = "3"
        app.screen.query_one("#in-use", Select).value = "share them"
        await until_app(pilot, lambda: session.asked[-1] == "plan --workload digits-cnn --epochs 3 --policy hybrid")
        app.screen.query_one("#devices", Input).value = "auto"
        await until_app(pilot, lambda: session.asked[-1] == "plan --workload digits-cnn --epochs 3 --devices auto --policy hybrid")
        app.screen.query_one("#policy", Select).value = "bench"
        await until_app(pilot, lambda: "compares on devices that are named" in screen_text(app))
        await pilot.press("f5")
        app.screen.query_one("#policy", Select).value = "hybrid"
        await until_planned(pilot)
        await pilot.press("f5")
        expected = "train --policy hybrid --workload digits-cnn --epochs 3 --devices auto --share"
        await until_app(pilot, lambda: session.asked[-1] == expected)


async def test_the_form_launches_what_a_launch_profiles_first() -> None:
    class Unprofiled(Obedient):
        async def perform(self, line: str) -> Answer | None:
            if line.startswith("plan"):
                raise NotProfiled("no profile of these devices holds", hint="train measures first by itself")
            return await super().perform(line)

    session = Unprofiled([story.inventory()])
    async with PacelineApp(session).run_test(size=(80, 24)) as pilot:
        app = await drawn(pilot)
        await pilot.press("t")
        await until_app(pilot, lambda: isinstance(app.screen, JobForm) and "train measures first" in screen_text(app))
        await pilot.press("f5")
        await until_app(pilot, lambda: session.asked[-1] == "train --policy hybrid --workload digits-cnn")


async def test_the_form_tells_what_cannot_be_planned_and_launches_nothing() -> None:
    session = Obedient([story.inventory()])
    async with PacelineApp(session).run_test(size=(80, 24)) as pilot:
        app = await drawn(pilot)
        await pilot.press("plus")
        await until_app(pilot, lambda: isinstance(app.screen, JobForm))
        app.screen.query_one("#epochs", Input).value = "0"
        await until_app(pilot, lambda: "at least 1" in str(app.screen.query_one("#plan", Static).content))
        await pilot.press("f5")
        await pilot.pause()
        assert isinstance(app.screen, JobForm)
        await pilot.press("escape")
        await until_app(pilot, lambda: not isinstance(app.screen, JobForm))
    assert not [line for line in session.asked if line.startswith("train")]


async def test_the_form_tells_how_to_start_without_a_node_that_does_not_answer() -> None:
    class Lost(Obedient):
        async def perform(self, line: str) -> Answer | None:
            await super().perform(line)
            if "--devices" not in line:
                raise NodeUnreachable("no route to host", node="demo4")
            return Answer("plan", PLAN)

    session = Lost([event for event in story.trouble() if not event.run_id])
    async with PacelineApp(session).run_test(size=(80, 24)) as pilot:
        app = await drawn(pilot)
        await pilot.press("plus")
        await until_app(pilot, lambda: "no route to host" in screen_text(app))
        connected = "demo1,demo2"  # demo3 and demo4 do not report any more
        assert connected in screen_text(app)
        await pilot.press("f5")
        await until_app(pilot, lambda: "not started" in screen_text(app))
        app.screen.query_one("#devices", Input).value = connected
        await until_app(pilot, lambda: "expected" in str(app.screen.query_one("#plan", Static).content))
        await pilot.press("f5")
        await until_app(pilot, lambda: session.asked[-1].startswith("train"))
    assert session.asked[-1].endswith(f"--devices {connected}")


async def test_cancelling_counts_the_processes_that_nodes_see() -> None:
    events = going_on()
    for place, event in enumerate(events):
        if isinstance(event, NodeReported) and event.devices:
            seen = tuple(ProcessReading(pid=pid, run_id=story.RUN) for pid in (7, 7, 8))
            events[place] = replace(event, devices=tuple(replace(device, processes=seen) for device in event.devices))
    async with PacelineApp(Obedient(events)).run_test() as pilot:
        app = await drawn(pilot)
        await pilot.press("C")
        await until_app(pilot, lambda: isinstance(app.screen, ConfirmModal))
        assert "4 ranks and 8 processes on 4 nodes" in screen_text(app)


async def test_a_list_is_written_with_rows_out_of_sight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with PacelineApp(Obedient(going_on())).run_test(size=(60, 10)) as pilot:
        await drawn(pilot)
        await pilot.press("1", "e")
        await until_app(pilot, lambda: any(tmp_path.iterdir()))
        text = next(tmp_path.glob("paceline-fleet-*.txt")).read_text()
        assert all(f"demo{number}" in text for number in range(1, 5))
        await pilot.press("7", "e")
        await until_app(pilot, lambda: "nothing to write here" in screen_text(pilot.app))


class Telling(Obedient):
    """A session whose nodes tell what would be done, and do it when that is said."""

    async def perform(self, line: str) -> Answer | None:
        verb, args = parse(line)
        await super().perform(line)
        if verb.name == "kill":
            who = {"node": args.node, "pid": args.pid, "started": 99, "user": "eve", "name": "train[/b]", "run_id": None}
            return Answer("kill", {"type": "kill", **who, "state": "ended" if args.yes else "running"})
        thing = {"node": "demo1", "kind": "runs", "name": story.RUN, "size": 3 << 20, "reason": None}
        things = [
            {**thing, "state": "removed" if args.yes else "removable"},
            {**thing, "kind": "data", "state": "kept", "reason": "a run uses it"},
        ]
        nodes = [{"name": name, "state": state, "reason": None} for name, state in (("demo1", "ok"), ("demo2", "lost"))]
        return Answer("clean", {"type": "clean", "removed": args.yes, "bytes": 3 << 20, "nodes": nodes, "things": things})


async def test_clean_shows_what_would_go_and_goes_on_only_after_a_yes() -> None:
    session = Telling(going_on())
    async with PacelineApp(session).run_test() as pilot:
        app = await drawn(pilot)
        for answer in "ny":
            app.execute("clean --all")
            await until_app(pilot, lambda: isinstance(app.screen, ConfirmModal))
            told = screen_text(app)
            assert "1 run" in told
            assert "3.0 MiB of 1 node would be removed for good" in told
            assert "1 item would stay: a run uses it" in told
            assert "No answer from demo2" in told
            await pilot.press(answer)
            await until_app(pilot, lambda: not isinstance(app.screen, ConfirmModal))
        await until_app(pilot, lambda: isinstance(app.screen, ResultPage))
        assert session.asked == ["clean --all", "clean --all", "clean --all --yes"]


async def test_a_process_is_ended_by_a_key_after_its_owner_was_told() -> None:
    events = going_on()
    seen = (ProcessReading(pid=77, user="eve", name="train"),)
    last = max(place for place, event in enumerate(events) if isinstance(event, NodeReported) and event.node == "demo1")
    reported = events[last]
    assert isinstance(reported, NodeReported)
    events[last] = replace(reported, devices=tuple(replace(device, processes=seen) for device in reported.devices))
    session = Telling(events)
    async with PacelineApp(session).run_test(size=(100, 30)) as pilot:
        app = await drawn(pilot)
        app.push_screen(NodeScreen("demo1"))
        await until_app(pilot, lambda: isinstance(app.screen, NodeScreen))
        await pilot.press("K")
        await until_app(pilot, lambda: isinstance(app.screen, ConfirmModal))
        assert "demo1: process 77, train[/b], of eve" in screen_text(app)
        await pilot.press("y")
        await until_app(pilot, lambda: "process 77 train[/b] of eve has ended" in screen_text(app))
        assert session.asked == ["kill demo1 77", "kill demo1 77 --started 99 --yes"]
        assert app.completions("kill demo1 ") == ["kill demo1 77"]


async def test_a_read_only_session_tells_of_a_process_and_asks_nothing() -> None:
    async with PacelineApp(Telling(going_on(), is_read_only=True), Preferences(read_only=True)).run_test() as pilot:
        app = await drawn(pilot)
        app.execute("kill demo1 77")
        await until_app(pilot, lambda: "with --yes it is ended" in screen_text(app))
        assert not isinstance(app.screen, ConfirmModal)
