"""The command palette (Ctrl+P): every verb, screen, theme and key in one list that is searched while typing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import cast

from textual.command import DiscoveryHit, Hit, Hits, Provider

from .command_line.commands import VERBS
from .keymap import EVERYWHERE, key_label
from .prompt_router import AppHost, refusal
from .theme import THEMES
from .views.bars import SCREENS

Entry = tuple[str, str, Callable[[], object]]
"""Name, description and callback."""


class PaletteCommands(Provider):
    """All commands, from the same registries as prompt, help and shell."""

    def entries(self) -> Iterator[Entry]:
        """One entry per command. A verb that needs arguments or acts on nodes opens the prompt; the others run at once."""
        app = cast("AppHost", self.app)
        for verb in VERBS.values():
            reason = refusal(verb, app.is_read_only)
            callback = (
                partial(app.open_prompt, f"{verb.name} ") if verb.acts or verb.needs_words else partial(app.execute, verb.name)
            )
            yield verb.name, f"{verb.summary}{f' ({reason})' if reason else ''}", callback
        for _, name, title, _ in SCREENS:
            yield f"screen {name}", f"show {title}", partial(app.run_action, f"visit('{name}')")
        for name in THEMES:
            yield f"theme {name}", "use this theme", partial(app.execute, f"theme {name}")
        bindings = app.key_map.bindings_of(type(app.screen))
        for binding in EVERYWHERE:
            if binding.id and not binding.action.startswith("visit") and binding.action != "palette":
                keys = key_label(bindings[binding.id].key.split(",")[0])
                yield f"{binding.id}  {keys}", binding.description, partial(app.run_action, binding.action)

    async def discover(self) -> Hits:
        """Every entry, while nothing is typed."""
        for name, summary, callback in self.entries():
            yield DiscoveryHit(name, callback, help=summary)

    async def search(self, query: str) -> Hits:
        """The entries that match, with their scores."""
        matcher = self.matcher(query)
        for name, summary, callback in self.entries():
            score = max(matcher.match(name), 0.8 * matcher.match(summary))
            if score > 0:
                yield Hit(score, matcher.highlight(name), callback, help=summary)
