"""``setup --kubernetes`` makes what is missing, leaves what is there, and says what only an administrator can do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from paceline.engine.errors import NodeRefused
from paceline.engine.jobs.kubernetes.client import ClusterApi, open_client
from paceline.engine.jobs.kubernetes.run import Cluster, ClusterAccess
from paceline.engine.jobs.kubernetes.setup import set_up
from paceline.engine.kubernetes.pod_template import ClusterSettings

from tests.support.clusters.fake_api import FakeApi

pytestmark = pytest.mark.slow
pytest.importorskip("kubernetes", reason="pip install 'paceline[kubernetes]' brings the client")


@pytest.fixture
def api(tmp_path: Path) -> Iterator[FakeApi]:
    fake = FakeApi(tmp_path / "cluster")
    yield fake
    fake.close()


def cluster_of(fake: FakeApi, place: Path) -> Cluster:
    client = open_client("k8s", str(fake.kubeconfig()), None)
    api = ClusterApi(client, "k8s", "paceline", patience=5.0, pause=lambda seconds: None)
    return Cluster(ClusterAccess("k8s", ClusterSettings()), place / "runs", lambda event: None, api=api)


def data(place: Path) -> dict[str, Path]:
    source = place / "prepared"
    (source / "deep").mkdir(parents=True)
    (source / "manifest.json").write_text("{}")
    (source / "deep" / "x.npy").write_bytes(bytes(200_000))
    return {"d" * 64: source}


async def test_one_command_prepares_a_cluster_and_a_second_one_changes_nothing(api: FakeApi, tmp_path: Path) -> None:
    api.objects["/apis/jobset.x-k8s.io/v1alpha2"] = {"metadata": {"name": "x"}, "resources": [{"name": "jobsets"}]}
    sources = data(tmp_path)

    first = await set_up(cluster_of(api, tmp_path), sources)
    second = await set_up(cluster_of(api, tmp_path), sources)

    assert first["state"] == second["state"] == "done"
    assert [step["state"] for step in first["steps"]] == ["made", "made", "present", "absent", "absent", "present", "made"]
    assert {step["state"] for step in second["steps"]} == {"present", "absent"}
    copy = api.volume / "data" / ("d" * 64)
    assert (copy / "deep" / "x.npy").read_bytes() == bytes(200_000)
    assert api.names("pods") == []


async def test_a_missing_operator_is_named_with_how_it_is_installed(api: FakeApi, tmp_path: Path) -> None:
    document = await set_up(cluster_of(api, tmp_path), {})

    (step,) = [step for step in document["steps"] if step["state"] == "missing"]
    assert document["state"] == "incomplete"
    assert step["what"] == "operator JobSet"
    assert "kubectl apply" in step["hint"]


async def test_a_person_who_may_make_no_namespace_is_told(api: FakeApi, tmp_path: Path) -> None:
    api.fail("POST", "/namespaces$", status=403, message="may not create namespaces")

    with pytest.raises(NodeRefused, match="may not create namespaces"):
        await set_up(cluster_of(api, tmp_path), {})
