"""What is wrong with the objects of a run, by the strict schemas of Kubernetes, the models of the operators, and what they admit.

The models drop fields that they do not know in silence: an object is right when it comes back equal.
"""

from __future__ import annotations

import copy
import functools
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from paceline.engine.plan import Plan
from paceline.engine.wire import from_plain, to_plain

Object = dict[str, Any]

VERSION = "1.37"
DNS_1123 = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
DNS_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
LABEL_KEY = re.compile(r"([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?")
QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?(m|[kMGTPE]|[KMGTPE]i)?")
IMAGE = re.compile(r"[a-z0-9]+([._/:-][A-Za-z0-9_.-]+)*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
RESERVED = re.compile(r"PET_(NNODES|NPROC_PER_NODE|NODE_RANK|MASTER_ADDR|MASTER_PORT)")
"""Variables that the webhook of a TrainJob refuses."""
_PYTORCH_SPEC = {"nprocPerNode": str, "runPolicy": dict, "pytorchReplicaSpecs": dict}
_RUN_POLICY = {
    "cleanPodPolicy": str,
    "backoffLimit": int,
    "ttlSecondsAfterFinished": int,
    "activeDeadlineSeconds": int,
    "suspend": bool,
}
_REPLICA = {"replicas": int, "restartPolicy": str, "template": dict}
"""Types of the training operator 1.9's models, of what we write."""


def faults(objects: list[Object]) -> list[str]:
    """Every fault of the objects of one run; none where a cluster would take them."""
    found = []
    for one in objects:
        found += [f"{one.get('kind')}: {fault}" for fault in _faults_of(one)]
    try:
        return found or _relations(objects)
    except Exception as error:  # as above
        return [f"{type(error).__name__}: {str(error)[:120]}"]


def _faults_of(one: Object) -> Iterator[str]:
    try:
        yield from _metadata(one)
        yield from _CHECKS[one["kind"], one["apiVersion"]](one)
        for template in templates(one):
            yield from _template(template)
    except Exception as error:  # whatever reading it raises, an API server would refuse it
        yield f"{type(error).__name__}: {str(error)[:120]}"


def _strict(one: Object) -> Iterator[str]:
    """Against the schema of the core object. Raises ValidationError."""
    _validate()(one, VERSION, strict=True)
    return iter(())


@functools.cache
def _validate() -> Any:
    from kubernetes_validate import utils

    utils.schema_contents = functools.cache(utils.schema_contents)  # it reads ten megabytes for every object
    return utils.validate


def _metadata(one: Object) -> Iterator[str]:
    metadata = one["metadata"]
    if not isinstance(metadata["name"], str) or not (DNS_1123 if one["kind"] == "Namespace" else DNS_1035).fullmatch(
        metadata["name"]
    ):
        yield f"the name {metadata['name']!r}"
    if unknown := metadata.keys() - {"name", "namespace", "labels"}:
        yield f"unknown metadata {sorted(unknown)}"
    if one["kind"] != "Namespace" and not DNS_1123.fullmatch(metadata["namespace"]):
        yield "its namespace"
    yield from _labels(metadata.get("labels", {}))


def _labels(labels: Any) -> Iterator[str]:
    for key, value in labels.items():
        if not LABEL_KEY.fullmatch(key) or not isinstance(value, str) or not LABEL_VALUE.fullmatch(value):
            yield f"the label {key}={value!r}"


def _namespace(one: Object) -> Iterator[str]:
    yield from _strict(one)
    if one["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] != "restricted":
        yield "it admits pods with rights"


def _claim(one: Object) -> Iterator[str]:
    yield from _strict(one)
    if not set(one["spec"]["accessModes"]) <= {"ReadWriteMany", "ReadWriteOnce"}:
        yield "unknown access modes"
    yield from _quantities(one["spec"]["resources"]["requests"])


def _config_map(one: Object) -> Iterator[str]:
    yield from _strict(one)
    plan = json.loads(one["data"]["plan.json"])
    if to_plain(from_plain(Plan, plan)) != plan:
        yield "its plan does not come back"
    json.loads(one["data"]["spec.json"])


def _network_policy(one: Object) -> Iterator[str]:
    yield from _strict(one)
    spec = one["spec"]
    if spec["policyTypes"] != ["Ingress"] or spec["ingress"] != [{"from": [{"podSelector": spec["podSelector"]}]}]:
        yield "it lets in others"
    if spec["podSelector"] != {"matchLabels": one["metadata"]["labels"]}:
        yield "it protects other pods"


def _job(one: Object) -> Iterator[str]:
    yield from _strict(one)
    yield from _indexed(one["spec"])


def _indexed(spec: Object) -> Iterator[str]:
    if spec["completionMode"] != "Indexed" or not 1 <= spec["parallelism"] <= spec["completions"]:
        yield "it counts wrong"
    if "backoffLimitPerIndex" not in spec and spec["backoffLimit"] != 0:
        yield "it would start a pod twice"


def _job_set(one: Object) -> Iterator[str]:
    from kubeflow_trainer_api.models.jobset_v1alpha2_job_set import JobsetV1alpha2JobSet

    yield from _comes_back(one, JobsetV1alpha2JobSet)
    spec = one["spec"]
    if spec["successPolicy"]["operator"] != "All" or spec["failurePolicy"]["maxRestarts"] != 0:
        yield "it ends when one ends, or begins again"
    names = [job["name"] for job in spec["replicatedJobs"]]
    if len(set(names)) < len(names) or not names:
        yield "its jobs have one name"
    for job in spec["replicatedJobs"]:
        if job["replicas"] != 1 or not DNS_1123.fullmatch(job["name"]):
            yield "a group is there not once"
        pod = f"{one['metadata']['name']}-{job['name']}-0-{job['template']['spec']['completions'] - 1}-abcde"
        if not DNS_1035.fullmatch(pod):
            yield f"a pod would be called {pod}"
        yield from _strict({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "x"}, "spec": job["template"]["spec"]})
        yield from _indexed(job["template"]["spec"])
        yield from _labels(job["template"]["metadata"]["labels"])


def _train_job(one: Object) -> Iterator[str]:
    from kubeflow_trainer_api.models.trainer_v1alpha1_train_job import TrainerV1alpha1TrainJob

    yield from _comes_back(one, TrainerV1alpha1TrainJob)
    spec = one["spec"]
    if (spec["runtimeRef"]["apiGroup"], spec["runtimeRef"]["kind"]) != ("trainer.kubeflow.org", "ClusterTrainingRuntime"):
        yield "its runtime is of no known kind"
    trainer = spec["trainer"]
    if trainer["numNodes"] < 1 or trainer["numProcPerNode"] < 1:
        yield "it has no node"
    if any(RESERVED.fullmatch(variable["name"]) for variable in trainer["env"]):
        yield "it sets a variable that torchrun reserves"
    for patch in spec["runtimePatches"]:
        domain, _, path = patch["manager"].partition("/")
        if not path or not all(DNS_1123.fullmatch(part) for part in domain.split(".")):
            yield "its manager has no domain"
        for job in patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]:
            containers = job["template"]["spec"]["template"]["spec"]["containers"]
            if job["name"] != "node" or [one["name"] for one in containers] != ["node"] or "env" in containers[0]:
                yield "it patches what the runtime does not have"


def _pytorch_job(one: Object) -> Iterator[str]:
    spec = one["spec"]
    yield from _typed(one, {"apiVersion": str, "kind": str, "metadata": dict, "spec": dict})
    yield from _typed(spec, _PYTORCH_SPEC)
    yield from _typed(spec["runPolicy"], _RUN_POLICY)
    if spec["runPolicy"]["cleanPodPolicy"] not in ("None", "Running", "All") or spec["runPolicy"]["backoffLimit"] != 0:
        yield "its policy"
    replicas = spec["pytorchReplicaSpecs"]
    if replicas.keys() != {"Master", "Worker"} or replicas["Master"]["replicas"] != 1 or replicas["Worker"]["replicas"] < 1:
        yield "it has not one master and workers"
    for replica in replicas.values():
        yield from _typed(replica, _REPLICA)
        if replica["restartPolicy"] != "Never" or [one["name"] for one in replica["template"]["spec"]["containers"]] != ["pytorch"]:
            yield "its container is not called pytorch, or starts again"


def _typed(value: Object, fields: Mapping[str, Any]) -> Iterator[str]:
    for name, item in value.items():
        if name not in fields:
            yield f"an unknown field {name}"
        elif type(item) is not fields[name]:
            yield f"{name} is a {type(item).__name__}"


def _comes_back(one: Object, model: Any) -> Iterator[str]:
    if model.from_dict(copy.deepcopy(one)).to_dict() != one:
        yield "it does not come back from its model"


_CHECKS = {
    ("Namespace", "v1"): _namespace,
    ("PersistentVolumeClaim", "v1"): _claim,
    ("ConfigMap", "v1"): _config_map,
    ("Secret", "v1"): _strict,
    ("NetworkPolicy", "networking.k8s.io/v1"): _network_policy,
    ("Job", "batch/v1"): _job,
    ("JobSet", "jobset.x-k8s.io/v1alpha2"): _job_set,
    ("TrainJob", "trainer.kubeflow.org/v1alpha1"): _train_job,
    ("PyTorchJob", "kubeflow.org/v1"): _pytorch_job,
}


def templates(one: Object) -> list[Object]:
    """The pod templates of a job; that of a TrainJob is put together from what it sets and patches."""
    spec = one.get("spec", {})
    if one["kind"] == "Job":
        return [spec["template"]]
    if one["kind"] == "JobSet":
        return [job["template"]["spec"]["template"] for job in spec["replicatedJobs"]]
    if one["kind"] == "PyTorchJob":
        return [replica["template"] for replica in spec["pytorchReplicaSpecs"].values()]
    if one["kind"] == "TrainJob":
        patched = spec["runtimePatches"][0]["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"][0]
        template = copy.deepcopy(patched["template"]["spec"]["template"])
        trainer = spec["trainer"]
        template["spec"]["containers"][0] |= {name: trainer[name] for name in ("image", "command", "env")}
        template["spec"]["containers"][0]["resources"] = trainer["resourcesPerNode"]
        template["spec"]["automountServiceAccountToken"] = False  # a patch has no field for it
        return [template]
    return []


def _template(template: Object) -> Iterator[str]:
    yield from _strict({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "x"}, "template": template})
    yield from _labels(template["metadata"]["labels"])
    pod = template["spec"]
    (container,) = pod["containers"]
    if pod.get("restartPolicy", "Never") != "Never":
        yield "its containers start again"
    yield from _security(pod, container)
    for part in container["resources"].values():
        yield from _quantities(part)
    limits, requests = container["resources"]["limits"], container["resources"]["requests"]
    if _bytes(limits["memory"]) < _bytes(requests["memory"]):
        yield "it asks for more than its limit"
    names = [volume["name"] for volume in pod["volumes"]]
    mounts = [mount["name"] for mount in container["volumeMounts"]]
    paths = [mount["mountPath"] for mount in container["volumeMounts"]]
    if set(mounts) != set(names) or len(set(names)) < len(names) or len(set(paths)) < len(paths):
        yield "its volumes and mounts differ"
    if any(len(volume) != 2 for volume in pod["volumes"]) or any(not path.startswith("/") for path in paths):
        yield "a volume of no kind"
    if not IMAGE.fullmatch(container["image"]) or not DNS_1123.fullmatch(container["name"]):
        yield "its image or its name"
    if any(not VARIABLE.fullmatch(variable["name"]) or len(variable) != 2 for variable in container["env"]):
        yield "a variable without a name or a value"
    if container["command"][:3] != ["python3", "-m", "paceline.engine.agent.pod"]:
        yield "its command"
    if not all(LABEL_VALUE.fullmatch(value) for value in pod.get("nodeSelector", {}).values()):
        yield "its node selector"
    for volume in pod["volumes"]:
        yield from _quantities({"sizeLimit": volume.get("emptyDir", {}).get("sizeLimit", "1")})


def _security(pod: Object, container: Object) -> Iterator[str]:
    """The restricted Pod Security Standard, and a read-only root file system."""
    own, whole = container["securityContext"], pod["securityContext"]
    if whole["runAsNonRoot"] is not True or whole["runAsUser"] == 0 or whole["seccompProfile"]["type"] != "RuntimeDefault":
        yield "it may be root, or call what it likes"
    if own["allowPrivilegeEscalation"] or own["privileged"] or not own["readOnlyRootFilesystem"] or not own["runAsNonRoot"]:
        yield "it may get rights"
    if own["capabilities"] != {"drop": ["ALL"]} or pod["automountServiceAccountToken"]:
        yield "it has rights"


def _quantities(values: Object) -> Iterator[str]:
    for name, value in values.items():
        if not isinstance(value, str) or not QUANTITY.fullmatch(value):
            yield f"the quantity {name}={value!r}"


def _bytes(text: str) -> int:
    return int(text.removesuffix("Gi")) << 30


def _relations(objects: list[Object]) -> list[str]:
    """What objects say of each other: names, namespaces, numbers of pods, the nodes on the command lines."""
    found = []
    by_kind = {one["kind"]: one for one in objects}
    job = objects[-1]
    namespaces = {one["metadata"]["namespace"] for one in objects if one["kind"] != "Namespace"}
    if namespaces != {by_kind["Namespace"]["metadata"]["name"]}:
        found.append("namespaces differ")
    names = {one["metadata"]["name"] for one in objects if one["kind"] not in ("Namespace", "PersistentVolumeClaim")}
    if len(names) != 1:
        found.append("names differ")
    for template in templates(job):
        for volume in template["spec"]["volumes"]:
            for field, key, kind in (
                ("configMap", "name", "ConfigMap"),
                ("secret", "secretName", "Secret"),
                ("persistentVolumeClaim", "claimName", "PersistentVolumeClaim"),
            ):
                if field in volume and (kind not in by_kind or volume[field][key] != by_kind[kind]["metadata"]["name"]):
                    found.append(f"there is no {kind} {volume[field][key]}")
    plan = from_plain(Plan, json.loads(by_kind["ConfigMap"]["data"]["plan.json"]))
    named, count = _pods(job)
    expected = [node.name for node in plan.nodes]
    if job["kind"] == "Job":
        assert plan.script is not None
        expected, named = [str(trial.number) for trial in plan.script.trials], [str(number) for number in range(count)]
        expected = [str(number) for number in range(len(expected))]
    if sorted(named) != sorted(expected) or count != len(expected):
        found.append(f"pods for {named} instead of {expected}")
    if "Secret" in by_kind and by_kind["Secret"]["data"].keys() != {f"{node}.json" for node in expected}:
        found.append("keys of other nodes")
    return found


def _pods(job: Object) -> tuple[list[str], int]:
    """The nodes that command lines name, and the number of pods."""
    spec = job["spec"]
    if job["kind"] == "Job":
        return [], spec["completions"]
    if job["kind"] == "JobSet":
        parts = [one["template"]["spec"] for one in spec["replicatedJobs"]]
        lists = [_nodes(part["template"]["spec"]["containers"][0]["command"]) for part in parts]
        counts = [part["completions"] for part in parts]
        if counts != [len(one) for one in lists]:
            return [], 0
        return [node for one in lists for node in one], sum(counts)
    if job["kind"] == "TrainJob":
        return _nodes(spec["trainer"]["command"]), spec["trainer"]["numNodes"]
    replicas = spec["pytorchReplicaSpecs"].values()
    (nodes,) = {tuple(_nodes(one["template"]["spec"]["containers"][0]["command"])) for one in replicas}
    return list(nodes), sum(one["replicas"] for one in replicas)


def _nodes(command: list[str]) -> list[str]:
    return command[command.index("--nodes") + 1].split(",")
