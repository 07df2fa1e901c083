"""The seam to a cluster: requests through the official client, sent again where that helps, refused in our words otherwise.

All methods block and are called in threads. The package ``kubernetes`` is imported at the first use.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from ...errors import ConfigurationError, NodeUnreachable, PacelineError, UsageError, WorkFailed
from .paths import collection, place
from .refusals import RETRIED, pause_before, refusal

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

Object = dict[str, Any]

CLIENT_HINT = "pip install 'paceline[kubernetes]' brings it"
CONNECT_TIMEOUT_S = 10.0
API_READ_TIMEOUT_S = 30.0
WATCH_READ_TIMEOUT_S = 5.0
"""Seconds without a byte of a watch after which it is begun again where it stood."""
WATCH_SECONDS = 240
"""Seconds after which a server ends a watch by itself."""
MAX_WATCH_LINE_BYTES = 16 << 20


class Expired(Exception):
    """The server does not know the version any more that a watch goes on from (410): list again."""


class WatchCut(Exception):
    """A watch ended before its time: it goes on where it stood."""


def open_client(cluster: str, kubeconfig: str | None, context: str | None) -> ApiClient:
    """The official client, by a kubeconfig, or inside a cluster by its token.

    Raises UsageError where the package is missing, ConfigurationError where there is no such context.
    """
    try:
        from kubernetes import client, config
    except ImportError:
        raise UsageError("the package kubernetes is missing here", node=cluster, hint=CLIENT_HINT) from None
    settings = client.Configuration()
    settings.retries = 0  # this module counts
    try:
        if kubeconfig is None and context is None and "KUBERNETES_SERVICE_HOST" in os.environ:
            config.load_incluster_config(client_configuration=settings)
        else:
            config.load_kube_config(config_file=kubeconfig, context=context, client_configuration=settings)
    except config.ConfigException as error:
        hint = "kubectl config get-contexts names them; kubeconfig in nodes.toml names another file"
        raise ConfigurationError(f"no way to the cluster: {error}", node=cluster, hint=hint) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"the kubeconfig cannot be read: {error}", node=cluster, hint="kubectl config view") from None
    return client.ApiClient(settings)


class ClusterApi:
    """The API of one cluster, in one namespace."""

    def __init__(
        self,
        client: ApiClient,
        cluster: str,
        namespace: str,
        patience: float = 120.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """``patience``: seconds for which a request that fails is sent again; ``pause``: waits so many seconds."""
        self.cluster, self.namespace = cluster, namespace
        self._client, self._patience, self._pause = client, patience, pause

    def get(self, path: str) -> Object | None:
        """An object; None: it is not there."""
        try:
            return self._request("GET", path)
        except _Missing:
            return None

    def create(self, one: Object) -> bool:
        """Make an object, unless the same one is there; False: it was. Raises WorkFailed where another one has its name."""
        path = place(one)
        try:
            self._request("POST", path.rpartition("/")[0], one, is_create=True)
        except _Taken:
            there = self.get(path)
            if there is None:  # it was removed in between
                return self.create(one)
            if not _holds(there, one):
                name = f"{one['kind']} {one['metadata']['name']}"
                raise WorkFailed(
                    f"another {name} is there already", node=self.cluster, hint="its run id is taken: start again"
                ) from None
            return False
        except _Missing as error:
            raise error.refusal from None
        return True

    def delete(self, kind: str, name: str) -> None:
        """Remove an object and what belongs to it. Nothing there is no error."""
        with contextlib.suppress(_Missing):
            self._request("DELETE", f"{collection(kind, self.namespace)}/{name}?propagationPolicy=Background")

    def list_objects(self, kind: str, selector: str = "") -> tuple[list[Object], str]:
        """The objects of a kind with these labels, and the version of the list. A kind that the cluster lacks has none."""
        try:
            answer = self._request("GET", collection(kind, self.namespace) + _query(labelSelector=selector))
        except _Missing:
            return [], ""
        return list(answer.get("items") or ()), str(answer.get("metadata", {}).get("resourceVersion", ""))

    def watch(self, kind: str, selector: str, version: str) -> Iterator[Object]:
        """Changes after a version: {"type", "object"}. Raises Expired, WatchCut, or the refusal of the server."""
        words = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(WATCH_SECONDS)}
        path = collection(kind, self.namespace) + _query(labelSelector=selector, **words)
        try:
            status, headers, response = self._send("GET", path, None, WATCH_READ_TIMEOUT_S)
        except OSError as error:
            raise WatchCut(str(error)) from None
        if status == 410:
            raise Expired
        if status in RETRIED:
            self._pause(pause_before(0, headers))
            raise WatchCut(f"status {status}")
        if status != 200:
            raise refusal(status, _read(response), path, self.cluster)
        try:
            for line in _lines(response):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    if event["object"].get("code") == 410:
                        raise Expired
                    raise WatchCut(str(event["object"].get("message")))
                yield event
        except (OSError, ValueError, LookupError, TypeError) as error:  # cut in the middle of a line
            raise WatchCut(str(error)) from None
        finally:
            response.close()

    def execute(self, pod: str, command: list[str]) -> Any:
        """Start a command in a pod; returns its streams (``kubernetes.stream.ws_client.WSClient``). Raises NodeUnreachable."""
        from kubernetes.client import CoreV1Api
        from kubernetes.client.exceptions import ApiException
        from kubernetes.stream import stream

        exec_pod = CoreV1Api(self._client).connect_get_namespaced_pod_exec
        ways = {"stdin": True, "stdout": True, "stderr": True, "tty": False, "_preload_content": False, "binary": True}
        try:
            return stream(exec_pod, pod, self.namespace, command=command, **ways)
        except ApiException as error:
            if error.status == 403:
                raise refusal(403, str(error.reason).encode(), "pods/exec", self.cluster) from None
            raise NodeUnreachable(
                f"no command in pod {pod}: {error.reason}", node=self.cluster, hint="kubectl describe pod"
            ) from None
        except OSError as error:
            raise NodeUnreachable(f"no command in pod {pod}: {error}", node=self.cluster) from None

    def _request(self, method: str, path: str, body: Object | None = None, is_create: bool = False) -> Object:
        """Send a request until it is answered. Raises _Missing, _Taken or the refusal; NodeUnreachable when patience ends."""
        waited, attempt = 0.0, 0
        while True:
            headers: dict[str, str] = {}
            error: PacelineError
            try:
                status, headers, response = self._send(method, path, body, API_READ_TIMEOUT_S)
                content = _read(response)
                if 200 <= status < 300:
                    return dict(json.loads(content))
                error = refusal(status, content, path, self.cluster)
                if status == 404:
                    raise _Missing(error)
                if status == 409 and is_create and b"AlreadyExists" in content:
                    raise _Taken
                if status not in RETRIED and not (status == 409 and attempt < 5):
                    raise error
            except (OSError, ValueError) as problem:  # no connection, cut off, or half an answer
                error = NodeUnreachable(
                    f"the API server does not answer: {problem}", node=self.cluster, hint="kubectl cluster-info"
                )
            seconds = pause_before(attempt, headers)
            if waited + seconds > self._patience:
                raise error
            self._pause(seconds)
            waited, attempt = waited + seconds, attempt + 1

    def _send(self, method: str, path: str, body: Object | None, read_timeout: float) -> tuple[int, dict[str, str], Any]:
        """Send a request once; returns status, headers and the response, whose body is unread. Raises OSError."""
        from urllib3.exceptions import HTTPError

        settings = self._client.configuration
        headers = {"Accept": "application/json", "User-Agent": "paceline"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        queries: list[Any] = []
        self._client.update_params_for_auth(headers, queries, ["BearerToken"], path, method, body)
        try:
            timeout = (CONNECT_TIMEOUT_S, read_timeout)
            answer = self._client.rest_client.request(method, settings.host + path, headers, body, _request_timeout=timeout)
        except HTTPError as error:
            raise OSError(_first_cause(error)) from None
        except Exception as error:
            if type(error).__name__ != "ApiException":
                raise
            raise OSError(str(getattr(error, "reason", error))) from None
        return int(answer.status), dict(answer.getheaders()), answer.response


class _Missing(Exception):
    """There is no such object, or no such kind."""

    def __init__(self, error: PacelineError) -> None:
        super().__init__(error.reason)
        self.refusal = error


class _Taken(Exception):
    """An object of that name is there."""


def _holds(there: Any, wanted: Any) -> bool:
    """Whether an object has all that was written, beside what a server has filled in."""
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(key in there and _holds(there[key], value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(there, list) and len(there) == len(wanted) and all(map(_holds, there, wanted))
    return bool(there == wanted)


def _query(**words: str) -> str:
    return "?" + urlencode({name: value for name, value in words.items() if value})


def _read(response: Any) -> bytes:
    """The whole body. Raises OSError where it ends early."""
    from urllib3.exceptions import HTTPError

    try:
        return bytes(response.read())
    except HTTPError as error:
        raise OSError(_first_cause(error)) from None
    finally:
        response.release_conn()


def _lines(response: Any) -> Iterator[bytes]:
    """The lines of a body that arrives in pieces. Raises OSError where a piece does not come, or a line has no end."""
    from urllib3.exceptions import HTTPError

    held = b""
    try:
        for piece in response.stream(1 << 16, decode_content=False):
            held += piece
            *lines, held = held.split(b"\n")
            yield from filter(None, lines)
            if len(held) > MAX_WATCH_LINE_BYTES:
                raise OSError("a line without an end")
    except HTTPError as error:
        raise OSError(_first_cause(error)) from None


def _first_cause(error: BaseException) -> str:
    reason = getattr(error, "reason", None)
    return str(reason if reason is not None else error)[:300]
