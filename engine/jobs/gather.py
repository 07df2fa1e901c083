"""Ask several nodes at once: all answers or the first error (``gather_all``), or each node by itself (``gather_answers``)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from ..errors import NodeUnreachable, PacelineError, WorkFailed

T = TypeVar("T")
ANSWER_TIMEOUT_S = 4.0
"""Seconds for a node to answer a question that costs it milliseconds. A node that takes longer hides only itself."""
MALFORMED = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading an answer of unexpected content may raise."""

logger = logging.getLogger(__name__)


async def gather_all(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """``asyncio.gather`` in a task group: results in order. The first error cancels the others and is raised without its group."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in coroutines]
    except BaseExceptionGroup as errors:
        raise _first(errors) from None
    return [task.result() for task in tasks]


async def gather_answers(
    questions: Mapping[str, Coroutine[Any, Any, T]], limit: float | None = None
) -> tuple[dict[str, T], dict[str, PacelineError]]:
    """Run one coroutine per node: the answers by node, and why there is none from the others.

    ``limit``: seconds after which an answer that is missing counts as NodeUnreachable; None: ``ANSWER_TIMEOUT_S``.
    """
    limit = ANSWER_TIMEOUT_S if limit is None else limit
    tasks = {node: asyncio.ensure_future(question) for node, question in questions.items()}
    answers: dict[str, T] = {}
    failures: dict[str, PacelineError] = {}
    try:
        if tasks:
            await asyncio.wait(tasks.values(), timeout=limit)
        for node, task in tasks.items():
            try:
                if task.done():
                    answers[node] = task.result()
                else:
                    failures[node] = NodeUnreachable(f"no answer for {limit:g} s", node=node)
            except PacelineError as error:
                failures[node] = error
            except MALFORMED as error:
                logger.exception("%s: malformed answer", node)
                failures[node] = WorkFailed(f"its answer cannot be read: {type(error).__name__}: {error}", node=node)
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    return answers, failures


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error
