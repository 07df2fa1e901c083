"""Whether distributing pays, on which devices, and what would help; with what a person supposes, answered at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..views.advice import (
    AdviceView,
    WhatIfChoice,
    advice_view,
    device_lines,
    help_lines,
    verdict_lines,
    way_heading,
    way_row,
    ways,
)
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import BaseScreen

TOGGLED = 8
"""Devices that have a key, F2 to F9."""


class AdviceScreen(BaseScreen):
    """The verdict, every way to train at this batch, what would help, and who takes part."""

    NAME = "advice"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "workload(-1)", "the workload before", id="advice.previous"),
        Binding("right", "workload(1)", "the workload after", id="advice.next"),
        Binding("f", "network(2)", "what if the network were twice as fast", id="advice.faster"),
        Binding("s", "network(0.5)", "what if it were half as fast", id="advice.slower"),
        Binding("b", "batch(2)", "what if the batch were twice as large", id="advice.larger"),
        Binding("B", "batch(0.5)", "what if it were half as large", id="advice.smaller"),
        Binding("r", "restore", "as measured again", id="advice.restore"),
        *(
            Binding(
                f"f{place + 2}", f"toggle({place})", f"what if device {place + 1} were not there", id=f"advice.device{place + 1}"
            )
            for place in range(TOGGLED)
        ),
    ]
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("advice.faster", "faster"),
        ("advice.slower", "slower"),
        ("advice.larger", "larger"),
        ("advice.device1", "device"),
        ("advice.restore", "as measured"),
        *BaseScreen.KEYS,
    )

    def body(self) -> Iterable[Widget]:
        self._workload = ""
        self._supposed = WhatIfChoice()
        self._found: AdviceView | None = None
        yield LineCanvas(self._verdict, widget_id="verdict")
        yield RowList(way_heading, self._row)
        yield LineCanvas(self._helps, "what would help", "remedies")
        yield LineCanvas(self._devices, "what if without", "supposed")

    def show(self, view: View) -> None:
        profiles = view.state.profiles
        if self._workload not in profiles:
            self._workload, self._supposed = next(reversed(profiles), ""), WhatIfChoice()
        self._found = advice_view(profiles.get(self._workload), self._supposed)
        for name in ("#remedies", "#supposed"):
            self.query_one(name).display = self._found is not None
        self.query_one(RowList).tell(view, [str(place) for place in range(len(ways(self._found)))])
        super().show(view)

    def _verdict(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return verdict_lines(self._found, len(view.state.profiles), width, height)

    def _row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        return way_row(self._found, key, width, is_under_cursor)

    def _helps(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return help_lines(self._found, width, height)

    def _devices(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return device_lines(self._found, width, height)

    def action_workload(self, step: int) -> None:
        """The profile of another workload."""
        names = list(self.deck.view.state.profiles)
        if self._workload in names:
            self._workload = names[(names.index(self._workload) + step) % len(names)]
            self._suppose(WhatIfChoice())

    def action_network(self, factor: float) -> None:
        """What if the network were another one."""
        self._suppose(replace(self._supposed, network=min(1024.0, max(1 / 1024, self._supposed.network * factor))))

    def action_batch(self, factor: float) -> None:
        """What if the batch were another one."""
        self._suppose(replace(self._supposed, batch=min(1024.0, max(1 / 16, self._supposed.batch * factor))))

    def action_toggle(self, place: int) -> None:
        """Take a device out, or put it back."""
        if self._found is not None and place < len(self._found.profile.devices):
            self._suppose(replace(self._supposed, without=self._supposed.without ^ {place}))

    def action_restore(self) -> None:
        """Suppose nothing."""
        self._suppose(WhatIfChoice())

    def _suppose(self, supposed: WhatIfChoice) -> None:
        self._supposed = supposed
        self.show(self.deck.view)
