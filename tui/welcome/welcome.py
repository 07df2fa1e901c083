"""The first start without a nodes.toml: asks for the embedded lab or machines of ~/.ssh/config, and writes what was agreed to."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, NamedTuple

from paceline.engine.errors import PacelineError
from paceline.engine.inventory.first_inventory import first_inventory, write_first_inventory
from paceline.engine.ssh.openssh.config_lines import ConfigError
from paceline.engine.ssh.openssh.host_names import NamedHost, named_hosts
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import SelectionList, Static
from textual.widgets.selection_list import Selection

from ..preferences import Preferences
from ..terminal.format import count, sanitize
from ..theme import THEMES, adapt_theme

KEYS = "Space marks   a all   Tab to the file   y write it and open   Esc back"


class Choice(NamedTuple):
    """What a person chose."""

    nodes: Path | None
    """The nodes.toml to open; None: the embedded lab."""
    has_tour: bool


class WelcomeScreen(Screen[None]):
    """The two ways to begin."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l,enter", "lab", "the embedded lab", show=False),
        Binding("s", "ssh", "machines of ~/.ssh/config", show=False),
        Binding("t", "tour", "with or without the tour", show=False),
        Binding("q,escape", "leave", "leave", show=False),
    ]

    def compose(self) -> ComposeResult:
        yield Static("paceline", id="title")
        yield Static(id="question", markup=False)

    def on_mount(self) -> None:
        self.update_text()

    def update_text(self) -> None:
        """Say what each key does."""
        app = self.app
        assert isinstance(app, WelcomeApp)
        self.query_one("#question", Static).update(Content("\n").join(map(Content, app.question())))

    def action_lab(self) -> None:
        self._welcome.choose(None)

    def action_ssh(self) -> None:
        if self._welcome.refusal:
            self.app.bell()
        else:
            self.app.push_screen(HostsScreen())

    def action_tour(self) -> None:
        self._welcome.has_tour = not self._welcome.has_tour
        self.update_text()

    def action_leave(self) -> None:
        self.app.exit(None)

    @property
    def _welcome(self) -> WelcomeApp:
        assert isinstance(self.app, WelcomeApp)
        return self.app


class HostsScreen(Screen[None]):
    """The hosts to choose from, and the file that they make. Nothing is written before ``y``."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "write", "write the file", show=False),
        Binding("a", "all", "all or none", show=False),
        Binding("q,escape", "back", "back", show=False),
    ]

    def compose(self) -> ComposeResult:
        hosts = self._welcome.hosts
        yield Static("paceline", id="title")
        yield Static("Which of these are machines of your lab?", classes="text", markup=False)
        yield SelectionList(*(Selection(Content(_label(host)), host.name, True) for host in hosts), id="hosts")
        with VerticalScroll(id="preview"):
            yield Static(id="file", markup=False)
        yield Static(KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        self.query_one("#preview").border_title = f"what is written to {sanitize(self._welcome.target, 60)}"
        self._show_file()

    def on_selection_list_selected_changed(self) -> None:
        self._show_file()

    def action_all(self) -> None:
        hosts = self.query_one("#hosts", SelectionList)
        (hosts.deselect_all if hosts.selected else hosts.select_all)()

    def action_write(self) -> None:
        chosen = self._chosen()
        fault = self._welcome.write(first_inventory(chosen)) if chosen else "mark at least one machine"
        if fault:
            self.query_one("#keys", Static).update(sanitize(fault, 200))

    def action_back(self) -> None:
        self.app.pop_screen()

    def _chosen(self) -> list[str]:
        """The marked hosts, in the order of the file."""
        marked = set(self.query_one("#hosts", SelectionList).selected)
        return [host.name for host in self._welcome.hosts if host.name in marked]

    def _show_file(self) -> None:
        self.query_one("#keys", Static).update(KEYS)
        lines = first_inventory(self._chosen()).splitlines()
        self.query_one("#file", Static).update("\n".join(sanitize(line, 200) for line in lines))

    @property
    def _welcome(self) -> WelcomeApp:
        assert isinstance(self.app, WelcomeApp)
        return self.app


class WelcomeApp(App[Choice | None]):
    """Asks where the machines are. Returns the choice, or None where the person leaves."""

    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+c", "quit", show=False, priority=True)]
    CSS = """
    Screen { background: $background; color: $foreground; }
    #title { color: $accent; text-style: bold; padding: 1 2 0 2; }
    #question, .text { padding: 1 2; }
    #hosts { height: 1fr; margin: 0 1; border: round $border; background: $background; }
    #preview { height: 1fr; margin: 0 1; padding: 0 1; color: $secondary; }
    #preview { border: round $border; border-title-color: $secondary; }
    #keys { height: 1; padding: 0 2; background: $surface; }
    """

    def __init__(self, target: Path, home: Path, preferences: Preferences, has_tour: bool = True) -> None:
        """``target``: the nodes.toml to write. ``has_tour``: whether the tour is proposed."""
        super().__init__()
        self.target, self.has_tour = target, has_tour
        self._theme = preferences.theme
        self.hosts: list[NamedHost] = []
        self.refusal = ""
        """Why no inventory can be made here; empty: it can."""
        left_out = 0
        try:
            self.hosts, left_out = named_hosts(home / ".ssh" / "config", home)
        except ConfigError as error:
            self.refusal = str(error)
        if target.exists():
            self.refusal = f"{target} is there already and is left as it is"
        elif not self.hosts:
            self.refusal = self.refusal or "~/.ssh/config names no machine"
        self._left_out = left_out

    def question(self) -> list[str]:
        """The text of the first screen."""
        room = max(20, self.size.width - 12)
        left_out = f", {self._left_out} patterns and code hosts left out" if self._left_out else ""
        machines = f"{count(len(self.hosts), 'host')}{left_out}"
        if self.refusal:
            machines = f"not possible: {sanitize(self.refusal, room)}"
        return [
            "Which machines shall it be?",
            "",
            "  l  the embedded lab: four nodes on this machine, their devices emulated.",
            "     Nothing to set up; real SSH, torchrun and gradients.",
            "",
            "  s  machines of ~/.ssh/config: a first nodes.toml, shown before it is written.",
            f"     {machines}",
            "",
            f"  t  a tour of the screens afterwards: {'yes' if self.has_tour else 'no'}",
            "",
            "  q  leave",
        ]

    def on_mount(self) -> None:
        theme = adapt_theme(THEMES.get(self._theme, THEMES["night"]), None if self.is_headless else self.console.color_system)
        self.register_theme(theme)
        self.theme = theme.name
        self.push_screen(WelcomeScreen())

    def choose(self, nodes: Path | None) -> None:
        """Leave with a choice."""
        self.exit(Choice(nodes, self.has_tour))

    def write(self, text: str) -> str:
        """Write the file that the person has seen, and leave with it; returns why that failed, empty where it did not."""
        try:
            write_first_inventory(self.target, text)
        except PacelineError as error:
            return str(error)
        self.choose(self.target)
        return ""


def _label(host: NamedHost) -> str:
    """The host as a line: its name, and what its block says of address and user."""
    alone = host.address or (f"user {host.user}" if host.user else "")
    where = f"{host.user}@{host.address}" if host.user and host.address else alone
    return f"{sanitize(host.name, 40):<24} {sanitize(where, 60)}".rstrip()
