"""A session with the machines of nodes.toml: verbs are performed by ``Control``."""

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
    """Opens ``Control`` after the first paint and starts the verb of the command line."""

    is_replay = False

    def __init__(self, inventory: Inventory, line: str, record: Path | None, is_read_only: bool = False) -> None:
        """``line``: the verb to start at once; empty: none."""
        from paceline.engine.control import Control, inventory_event

        self.inventory: InventoryRead | None = inventory_event(inventory)
        self._control: Control = Control(inventory, record, ask=self._ask)
        self.ask: AskPerson | None = None
        """Answers the prompts of a login; None: a node that needs one is refused."""
        self.on_failure: Callable[[str], None] | None = None
        """Told why a launch failed, as one sentence."""
        self._line = line
        self.is_read_only = is_read_only
        self._launches: set[asyncio.Task[None]] = set()
        self._reading: set[str] = set()
        """Past runs that are being read."""
        self.exit_status = 0
        """Of the last launch."""

    @property
    def state(self) -> State:
        """The current state."""
        return self._control.state

    async def _ask(self, prompt: LoginPrompt) -> str | None:
        return None if self.ask is None else await self.ask(prompt)

    def logs(self, run_id: str) -> Path | None:
        """Directory with the copied logs of a run; None where there are none."""
        return self._control.copies(run_id)

    async def clocks(self, nodes: Sequence[str]) -> Mapping[str, Clock]:
        """Clock offsets of the connected nodes from this machine."""
        return await self._control.clocks(nodes)

    def subscribe(self, listener: Callable[[Event], None]) -> object:
        """Call ``listener`` with every event."""
        return self._control.subscribe(listener)

    async def open(self) -> Answer | None:
        """Show the runs of earlier sessions, connect to all machines, perform the verb, and list the runs of the nodes."""
        self._control.list_past()
        await self._control.open()
        answer = await self.perform(self._line) if self._line else None
        await self.perform("jobs")
        return answer

    async def read_run(self, run_id: str) -> None:
        """Bring everything of a run that has ended into the stream."""
        if run_id not in self._reading:
            self._reading.add(run_id)
            try:
                await self._control.read_run(run_id)
            finally:
                self._reading.discard(run_id)

    async def close(self) -> None:
        """Close the connections; runs go on."""
        for task in self._launches:
            task.cancel()
        await asyncio.gather(*self._launches, return_exceptions=True)
        await self._control.close()

    async def finished(self) -> None:
        """Wait for the end of all launches of this session."""
        await asyncio.gather(*self._launches)

    async def perform(self, line: str) -> Answer | None:
        """Perform a verb. A launch continues in the background and reports its failure in the stream."""
        verb, args = parse(line)
        if verb.name == "replay":
            raise UsageError("replay needs a session of its own", hint=f"leave with q, then: paceline replay {args.file}")
        check_allowed(verb, args, self.is_read_only)
        if not verb.is_launch:
            try:
                return Answer(verb.name, await verb.perform(self._control, args))
            finally:
                if not self._launches:  # else the current phase is that of a launch
                    self._control.publish(Progress())
        if self._launches:
            raise UsageError("a run is being followed already", hint="C cancels it")

        async def launch() -> None:
            from ..command_line.batch import exit_status  # imports the renderer, which is not needed before the first paint

            self.exit_status = 0
            try:
                self.exit_status = exit_status(await verb.perform(self._control, args))
            except WaitGivenUp as error:  # asked for by the person, so no failure
                self.exit_status = error.exit_status
                self._control.publish(Progress())
            except PacelineError as error:
                self.exit_status = error.exit_status
                self._control.publish(Warned(reason=f"{verb.name} failed: {error}"))
                if self.on_failure is not None:
                    self._control.publish(Progress())  # the sentence is shown in its own place
                    self.on_failure(f"{verb.name} failed: {error}")

        task = asyncio.create_task(launch(), name=line)
        self._launches.add(task)
        task.add_done_callback(self._launches.discard)
        return None
