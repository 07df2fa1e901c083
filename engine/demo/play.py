"""Performs a demo session: act after act, with a caption at each moment that the script waits for. Nothing of it is made up."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

from ..events import Captioned, Event
from ..reports.document_type import Document
from .power import kill_node
from .script_file import Act, DemoScript, Moment, told

CAPTION_SPACING_S = 4.0
"""Seconds for which a caption stands at least, so that it can be read."""


class Stage(Protocol):
    """What a session needs of the control centre."""

    runs: Path
    """Directory ``logs/runs`` of the lab."""

    def subscribe(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Call ``listener`` with every event; returns what ends that."""
        ...

    def publish(self, event: Event) -> None:
        """Publish an event to all listeners."""
        ...

    def node_root(self, name: str) -> Path:
        """The directory of an embedded node."""
        ...

    async def cut_power(self, name: str) -> None:
        """Close the SSH server of an embedded node."""
        ...

    def restore_power(self, name: str) -> None:
        """Let the SSH server of an embedded node be opened again."""
        ...


Perform = Callable[[str], Awaitable[Document]]
"""Performs a line as typed at the ``:`` prompt, to its end. Raises PacelineError."""


class Cues:
    """The moments that are still to come. Pure: an event goes in, the moments that it brings come out."""

    def __init__(self, moments: tuple[Moment, ...]) -> None:
        self._left = list(moments)
        self._seen = dict.fromkeys(range(len(moments)), 0)
        self._numbers = {id(moment): number for number, moment in enumerate(moments)}

    def due(self, event: Event) -> list[Moment]:
        """The moments of this event, each once."""
        due = []
        for moment in list(self._left):
            if moment.meets(event):
                number = self._numbers[id(moment)]
                self._seen[number] += 1
                if self._seen[number] == moment.of:
                    self._left.remove(moment)
                    due.append(moment)
        return due


class Prompter:
    """Says captions one after another, each for a while."""

    def __init__(self, publish: Callable[[Event], None], spacing: float = CAPTION_SPACING_S) -> None:
        self._publish, self._spacing = publish, spacing
        self._waiting: asyncio.Queue[Captioned] = asyncio.Queue()

    def say(self, text: str, values: Mapping[str, Any], look: str) -> None:
        """Say a sentence with the values that it names, after those that still wait."""
        if text:
            self._waiting.put_nowait(Captioned(text=told(text, values), screen=look))

    async def run(self) -> None:
        """Publish what waits, until cancelled."""
        while True:
            caption = await self._waiting.get()
            self._publish(caption)
            await asyncio.sleep(self._spacing)
            self._waiting.task_done()

    async def silence(self) -> None:
        """Wait until everything was said."""
        await self._waiting.join()


async def play(script: DemoScript, stage: Stage, perform: Perform, spacing: float = CAPTION_SPACING_S) -> Document:
    """Perform a session; returns the document of its last act. Raises what an act raises, and ends what was begun."""
    prompter, cues = Prompter(stage.publish, spacing), Cues(script.moments)
    deeds: set[asyncio.Task[None]] = set()

    def on_event(event: Event) -> None:
        for moment in cues.due(event):
            prompter.say(moment.say, {one.name: getattr(event, one.name) for one in fields(event)}, moment.look)
            if moment.lose or moment.back:
                deeds.add(asyncio.create_task(_do(moment, stage), name=f"power of {moment.lose or moment.back}"))

    unsubscribe = stage.subscribe(on_event)
    speaking = asyncio.create_task(prompter.run(), name="captions")
    document: Document = {}
    try:
        for act in script.acts:
            document = await _perform(act, prompter, perform, stage.runs.parents[1])
        await prompter.silence()
        for deed in deeds:
            await deed
        return document
    finally:
        unsubscribe()
        for task in (speaking, *deeds):
            task.cancel()
        await asyncio.gather(speaking, *deeds, return_exceptions=True)


async def _perform(act: Act, prompter: Prompter, perform: Perform, lab: Path) -> Document:
    prompter.say(act.say, {}, act.look)
    document = await perform(act.run.replace("{lab}", shlex.quote(str(lab))))
    if act.then:
        prompter.say(act.then, document, act.then_look)
    if act.pause:
        await prompter.silence()
        await asyncio.sleep(act.pause)
    return document


async def _do(moment: Moment, stage: Stage) -> None:
    """Cut the power of a node, or restore it."""
    if moment.lose:
        await asyncio.to_thread(kill_node, stage.node_root(moment.lose))
        await stage.cut_power(moment.lose)
    if moment.back:
        stage.restore_power(moment.back)
