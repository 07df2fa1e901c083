"""Watches the pods of a run over cuts, slow answers and forgotten versions, and tells each change of the whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from ...errors import NodeUnreachable
from ...kubernetes.pod_template import Object
from .client import ClusterApi, Expired, WatchCut
from .refusals import pause_before


def watch_pods(
    api: ClusterApi, selector: str, is_wanted: Callable[[], bool], pause: Callable[[float], None] = time.sleep
) -> Iterator[list[Object]]:
    """All pods with these labels, again after each change, until ``is_wanted`` says no. Raises NodeRefused and the like."""
    cuts = 0
    while is_wanted():
        try:
            items, version = api.list_objects("Pod", selector)
        except NodeUnreachable:
            if not is_wanted():
                return
            continue  # the request has its own patience
        pods = {str(one["metadata"]["name"]): one for one in items}
        yield list(pods.values())
        while is_wanted():
            try:
                for event in api.watch("Pod", selector, version):
                    cuts = 0
                    one = event["object"]
                    version = str(one["metadata"].get("resourceVersion", version))
                    if event["type"] == "BOOKMARK":
                        continue
                    name = str(one["metadata"]["name"])
                    if event["type"] == "DELETED":
                        pods.pop(name, None)
                    else:
                        pods[name] = one
                    yield list(pods.values())
                    if not is_wanted():
                        return
            except Expired:
                break
            except WatchCut:
                cuts += 1
                pause(pause_before(cuts - 1, {}))
            yield list(pods.values())
