"""The Advice screen: whether distributing pays, on which devices, and what would help, with what-if questions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

from paceline.engine.store.selectors import wall_clock
from textual.binding import Binding, BindingType
from textual.strip import Strip
from textual.widget import Widget

from ..messages import View
from ..views.advice import (
    AdviceView,
    WhatIfChoice,
    advice_view,
    candidate_heading,
    candidate_row,
    candidate_table,
    listed_candidates,
    participant_lines,
    remedy_lines,
    verdict_lines,
)
from ..widgets.line_canvas import LineCanvas, RowList
from .base_screen import PANELS_MIN_LINES, BaseScreen

MAX_DEVICE_KEYS = 8
"""Number of devices with a key, F2 to F9."""


class AdviceScreen(BaseScreen):
    """The verdict, every candidate at this batch size, the remedies, and the devices that take part."""

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
                f"f{place + 2}",
                f"toggle_device({place})",
                f"what if device {place + 1} were not there",
                id=f"advice.device{place + 1}",
            )
            for place in range(MAX_DEVICE_KEYS)
        ),
    ]
    FOOTER_KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("advice.faster", "faster"),
        ("advice.slower", "slower"),
        ("advice.larger", "larger"),
        ("advice.device1", "device"),
        ("advice.restore", "as measured"),
        *BaseScreen.FOOTER_KEYS,
    )

    def compose_body(self) -> Iterable[Widget]:
        self._workload = ""
        self._what_if = WhatIfChoice()
        self._advice: AdviceView | None = None
        yield LineCanvas(self._draw_verdict, widget_id="verdict")
        yield RowList(candidate_heading, self._draw_row)
        yield LineCanvas(self._draw_remedies, "what would help", "remedies")
        yield LineCanvas(self._draw_devices, "what if without", "supposed")

    def update_view(self, view: View) -> None:
        profiles = view.state.profiles
        if self._workload not in profiles:
            self._workload, self._what_if = next(reversed(profiles), ""), WhatIfChoice()
        self._advice = advice_view(profiles.get(self._workload), self._what_if, wall_clock(view.state, view.state.at))
        self.query_one("#remedies").display = self._advice is not None
        self.query_one("#supposed").display = self._advice is not None and self.size.height >= PANELS_MIN_LINES
        self.query_one(RowList).update_rows(view, [str(index) for index in range(len(listed_candidates(self._advice)))])
        super().update_view(view)

    def export_table(self) -> Sequence[Sequence[object]]:
        return candidate_table(self._advice)

    def _draw_verdict(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return verdict_lines(self._advice, len(view.state.profiles), width, height)

    def _draw_row(self, view: View, key: str, width: int, is_under_cursor: bool) -> Strip:
        return candidate_row(self._advice, key, width, is_under_cursor)

    def _draw_remedies(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return remedy_lines(self._advice, width, height)

    def _draw_devices(self, view: View, width: int, height: int) -> Sequence[Strip]:
        return participant_lines(self._advice, width, height)

    def action_workload(self, step: int) -> None:
        """Show the advice for another workload."""
        names = list(self.host.view.state.profiles)
        if self._workload in names:
            self._workload = names[(names.index(self._workload) + step) % len(names)]
            self._set_what_if(WhatIfChoice())

    def action_network(self, factor: float) -> None:
        """What if the network were ``factor`` times as fast."""
        self._set_what_if(replace(self._what_if, network=min(1024.0, max(1 / 1024, self._what_if.network * factor))))

    def action_batch(self, factor: float) -> None:
        """What if the batch were ``factor`` times as large."""
        self._set_what_if(replace(self._what_if, batch=min(1024.0, max(1 / 16, self._what_if.batch * factor))))

    def action_toggle_device(self, index: int) -> None:
        """Exclude a device from the question, or include it again."""
        if self._advice is not None and index < len(self._advice.profile.devices):
            self._set_what_if(replace(self._what_if, without=self._what_if.without ^ {index}))

    def action_restore(self) -> None:
        """Return to the measured profile."""
        self._set_what_if(WhatIfChoice())

    def _set_what_if(self, supposed: WhatIfChoice) -> None:
        self._what_if = supposed
        self.update_view(self.host.view)
