"""The palette (Ctrl+P): every verb, screen, theme and key in one list that is searched as you type."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from .command_line.commands import VERBS
from .keymap import EVERYWHERE, shown
from .theme import THEMES
from .views.jobs import SCREENS

if TYPE_CHECKING:
    from .app import PacelineApp

Entry = tuple[str, str, Callable[[], object]]
"""What it is called, what it does, and the deed."""


class PaletteCommands(Provider):
    """All that can be done, from the same registries as prompt, help and shell."""

    def entries(self) -> Iterator[Entry]:
        """One line each. A verb that needs words, or acts on nodes, opens the prompt with its name; the others start at once."""
        app = cast("PacelineApp", self.app)
        for verb in VERBS.values():
            refusal = app.refusal(verb)
            deed = partial(app.open_prompt, f"{verb.name} ") if verb.acts or verb.needs_words else partial(app.execute, verb.name)
            yield verb.name, f"{verb.summary}{f' ({refusal})' if refusal else ''}", deed
        for _, name, title in SCREENS:
            yield f"screen {name}", f"show {title}", partial(app.run_action, f"visit('{name}')")
        for name in THEMES:
            yield f"theme {name}", "wear it", partial(app.execute, f"theme {name}")
        named = app.bindings_of(type(app.screen))
        for binding in EVERYWHERE:
            if binding.id and not binding.action.startswith("visit") and binding.action != "palette":
                keys = shown(named[binding.id].key.split(",")[0])
                yield f"{binding.id}  {keys}", binding.description, partial(app.run_action, binding.action)

    async def discover(self) -> Hits:
        """Everything, before a letter is typed."""
        for name, summary, deed in self.entries():
            yield DiscoveryHit(name, deed, help=summary)  # type: ignore[arg-type]

    async def search(self, query: str) -> Hits:
        """What matches, best first."""
        matcher = self.matcher(query)
        for name, summary, deed in self.entries():
            score = max(matcher.match(name), 0.8 * matcher.match(summary))
            if score > 0:
                yield Hit(score, matcher.highlight(name), deed, help=summary)  # type: ignore[arg-type]
