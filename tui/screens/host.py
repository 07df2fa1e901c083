"""What the screens need of the app: a protocol, so that no screen imports the app that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from textual.screen import Screen

from ..messages import NoticeTone, ShortNotice, View
from ..prompt_history import PromptHistory
from ..sessions.session import Session


class ScreenHost(Protocol):
    """The app as its screens see it. ``BaseScreen.host`` is the app of a screen under this type."""

    session: Session
    view: View
    """The newest view; a screen that changes how the person looks at it replaces it and draws it."""
    notice: ShortNotice | None
    """Shown in the bottom bar instead of the keys; None: nothing to show."""
    history: PromptHistory

    @property
    def screen(self) -> Screen[Any]:
        """The screen in front."""
        ...

    @property
    def is_read_only(self) -> bool:
        """Whether everything that acts on nodes is refused."""
        ...

    def call_later(self, callback: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
        """Call back once the messages that wait are handled."""
        ...

    def show_notice(self, text: str, severity: NoticeTone = "warning") -> None:
        """Show one line in the bottom bar for a few seconds."""
        ...

    def clear_notice(self) -> None:
        """Remove the line of the bottom bar, which no longer holds."""
        ...

    def keys_of(self, screen: Any) -> list[tuple[str, str, str]]:
        """The keys in the bottom bar of a screen: label, description and Textual's name of each."""
        ...

    def completions(self, line: str) -> list[str]:
        """Lines that complete what was typed at the prompt, best first."""
        ...

    def open_prompt(self, text: str) -> None:
        """Open the prompt with the beginning of a line."""
        ...

    def execute(self, line: str) -> None:
        """Run a line as if it had been typed at the prompt."""
        ...

    def show_run(self, run_id: str) -> None:
        """Show the Run screen of one run."""
        ...

    def show_run_of_device(self, key: str) -> None:
        """Show the run that holds a device, if one does."""
        ...

    async def action_visit(self, mode: str, run_id: str | None = None) -> None:
        """Show a screen, ``run_id``: of this run."""
        ...

    async def action_back(self) -> None:
        """Return to the screen that the person came from."""
        ...

    def action_seek(self, where: str) -> None:
        """Go to another moment of a replay: seconds, ``next`` or ``previous``."""
        ...
