"""A session with real machines, as the screens see it: the control door behind ``perform``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paceline.engine.errors import PacelineError, UsageError, WaitGivenUp
from paceline.engine.events import Event, InventoryRead, Progress, Warned
from paceline.engine.jobs.logs.merge import Clock
from paceline.engine.specs import Inventory
from paceline.engine.ssh.prompts import AskPerson, LoginPrompt
from paceline.engine.store.state import State

from ..command_line.commands import check_allowed, parse
from .session import Answer

if TYPE_CHECKING:
    from paceline.engine.control import Control


class LiveSession:
    """Opens the control door after the first paint and starts the verb the person came with."""

    is_replay = False

    def __init__(self, inventory: Inventory, line: str, record: Path | None, is_read_only: bool = False) -> None:
        """``line``: a verb to start at once, empty for none."""
        from paceline.engine.control import Control, inventory_event

        self.inventory: InventoryRead | None = inventory_event(inventory)
        self._control: Control = Control(inventory, record, ask=self._put)
        self.ask: AskPerson | None = None
        """Who answers what a login needs; without one such a node is refused."""
        self._line = line
        self.is_read_only = is_read_only
        self._work: set[asyncio.Task[None]] = set()
        self.exit_status = 0
        """Of the last launch, where it failed."""

    @property
    def state(self) -> State:
        """What is true now."""
        return self._control.state

    async def _put(self, question: LoginPrompt) -> str | None:
        return None if self.ask is None else await self.ask(question)

    def logs(self, run_id: str) -> Path | None:
        """The copies of a run that is followed from here, or was."""
        return self._control.copies(run_id)

    async def clocks(self, nodes: Sequence[str]) -> Mapping[str, Clock]:
        """How the clocks of nodes that answer differ from ours."""
        return await self._control.clocks(nodes)

    def subscribe(self, listener: Callable[[Event], None]) -> object:
        """Hear every event."""
        return self._control.subscribe(listener)

    async def open(self) -> Answer | None:
        """Connect to all machines, then start the verb; without one, look which runs there are."""
        await self._control.open()
        answer = await self.perform(self._line or "jobs")
        return answer if self._line else None

    async def close(self) -> None:
        """Leave: connections end, runs go on."""
        for task in self._work:
            task.cancel()
        await asyncio.gather(*self._work, return_exceptions=True)
        await self._control.close()

    async def finished(self) -> None:
        """Wait for the end of all launches that are followed from here."""
        await asyncio.gather(*self._work)

    async def perform(self, line: str) -> Answer | None:
        """Carry out a verb. A launch goes on in the background; its trouble is told in the stream."""
        verb, args = parse(line)
        if verb.name == "replay":
            raise UsageError("a recording is replayed on its own", hint=f"leave with q, then: paceline replay {args.file}")
        check_allowed(verb, args, self.is_read_only)
        if not verb.is_launch:
            try:
                return Answer(verb.name, await verb.perform(self._control, args))
            finally:
                if not self._work:  # else the phase that is told is that of a launch
                    self._control.publish(Progress())
        if self._work:
            raise UsageError("a run is being followed already", hint="C cancels it")

        async def work() -> None:
            from ..command_line.batch import exit_status  # with all that renders: not before the first paint

            self.exit_status = 0
            try:
                self.exit_status = exit_status(await verb.perform(self._control, args))
            except WaitGivenUp as error:  # as the person asked: no trouble to tell
                self.exit_status = error.exit_status
                self._control.publish(Progress())
            except PacelineError as error:
                self.exit_status = error.exit_status
                self._control.publish(Warned(reason=f"{verb.name} failed: {error}"))

        task = asyncio.create_task(work(), name=line)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return None
