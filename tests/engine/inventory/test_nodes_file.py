"""nodes.toml: what is read, what is refused and in which words, and that no file whatever ends in a traceback."""

from __future__ import annotations

import contextlib
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paceline.engine.errors import ConfigurationError, UsageError
from paceline.engine.inventory.choice import load_inventory
from paceline.engine.inventory.nodes_file import read_inventory
from paceline.engine.inventory.nodeset import expand_node_set, select_nodes
from paceline.engine.inventory.toml_positions import line_of
from paceline.engine.specs import Inventory, LinkSpec, NodeSpec

from tests.support.places import CHECKOUT

LAB = """\
[defaults]
user = "lab"
python = "~/venv/bin/python"
env = { A = "1", B = "2" }

[[node]]
name = "atlas"
host = "atlas.lab"
port = 2222
user = "me"
key = "keys/atlas"
jump = "me@gate:22,[fe80::1]:2200"
host_key = "SHA256:abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
env = { B = "3" }
address = "10.0.0.5"
interface = "eth1"
tags = ["fast"]

[[node]]
name = "demo1"
kind = "embedded"
devices = [
  { name = "RTX 3060", speed = 12.7, memory = "12GiB" },
  { name = "GTX 1650", speed = 3, memory = "4096 MiB" },
]
[[node.fault]]
at_step = 40
slowdown = 2.0
device = 1
"""


def write(directory: Path, text: str) -> Path:
    path = directory / "nodes.toml"
    path.write_text(text)
    return path


def refusal(directory: Path, text: str) -> str:
    """What is said about a file, without its path."""
    path = write(directory, text)
    with pytest.raises(ConfigurationError) as caught:
        read_inventory(path)
    said = str(caught.value)
    assert said.startswith(f"{path}")
    assert "\n" not in said
    return said.removeprefix(str(path))


def test_the_shipped_file_is_the_reference_lab() -> None:
    nodes = read_inventory(CHECKOUT / "nodes.toml").nodes
    assert [node.name for node in nodes] == ["demo1", "demo2", "demo3", "demo4"]
    assert {node.kind for node in nodes} == {"embedded"}
    devices = [device for node in nodes for device in node.devices]
    assert [(device.name, device.speed, device.memory >> 30) for device in devices] == [
        ("RTX 3060", 12.7, 12),
        ("RTX 3050", 9.1, 8),
        ("GTX 1650", 3.0, 4),
        ("GTX 1650", 3.0, 4),
    ]


def test_a_node_wins_over_the_defaults_and_what_it_inherits_is_known(tmp_path: Path) -> None:
    atlas, demo = read_inventory(write(tmp_path, LAB)).nodes
    assert (atlas.user, atlas.port, atlas.python) == ("me", 2222, "~/venv/bin/python")
    assert atlas.env == {"A": "1", "B": "3"}
    assert atlas.inherited == ("python",)
    assert atlas.key == str(tmp_path / "keys/atlas")
    assert (atlas.address, atlas.interface, atlas.tags) == ("10.0.0.5", "eth1", ("fast",))
    assert [device.memory for device in demo.devices] == [12 << 30, 4 << 30]
    assert (demo.faults[0].at_step, demo.faults[0].slowdown, demo.faults[0].device) == (40, 2.0, 1)


def test_the_path_is_absolute_however_it_was_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, LAB)
    monkeypatch.chdir(tmp_path)
    inventory = read_inventory(Path("nodes.toml"))
    assert inventory.path == str(tmp_path / "nodes.toml")
    assert inventory.lab == tmp_path.name


NODE = '[[node]]\nname = "a"\n'
EMBEDDED = NODE + 'kind = "embedded"\ndevices = [{ name = "d", speed = 1, memory = "1GiB" }]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ": no node: expected at least one [[node]] table"),
        ("[defaults]\n", ": no node: expected at least one [[node]] table"),
        ("node = 3\n", ":1: node: expected tables written as [[node]]"),
        ("[[node]]\nhost = 'x'\n", ":1: name: expected a name: every node needs one"),
        ("[[nodes]]\nname='a'\n", ":1: nodes: unknown key of nodes.toml: did you mean 'node'?"),
        (NODE + "hots = 'x'\n", ":3: hots: unknown key of a node: did you mean 'host'?"),
        (NODE + "\n# other\n" + NODE, ":6: name: expected a unique name, 'a' is taken"),
        ("[[node]]\nname = '-a'\n", ":2: name: expected a letter or digit"),
        ("[[node]]\nname = 'a/b'\n", ":2: name: expected a letter or digit"),
        (NODE + "port = 70000\n", ":3: port: expected a whole number from 1 to 65535, got 70000"),
        (NODE + "port = '22'\n", ":3: port: expected a whole number from 1 to 65535, got '22'"),
        (NODE + "port = true\n", ":3: port: expected a whole number"),
        (NODE + "host = '10.0.0.1:2222'\n", ':3: host: expected the host alone: write host = "10.0.0.1", port = 2222, got'),
        (NODE + "host = 'root@10.0.0.1'\n", ':3: host: expected the host alone: write user = "root", host = "10.0.0.1", got'),
        (
            NODE + "host = 'ssh://me@[::1]:22'\n",
            ':3: host: expected the host alone: write user = "me", host = "::1", port = 22, got',
        ),
        (NODE + "host = '[::1]'\n", ':3: host: expected the host alone: write host = "::1", got'),
        (NODE + "host = '-oProxyCommand=sh'\n", ":3: host: expected one word that does not begin with a dash"),
        (NODE + "user = '-l'\n", ":3: user: expected one word that does not begin with a dash"),
        (NODE + "jump = 'a,-b'\n", ":3: jump: expected one word that does not begin with a dash"),
        (NODE + "jump = 'me@-b'\n", ":3: jump: expected jump hosts as user@host:port"),
        (NODE + "host_key = 'abc'\n", ":3: host_key: expected a fingerprint"),
        (NODE + "kind = 'cloud'\n", ":3: kind: expected one of ssh, embedded, slurm, kubernetes, got 'cloud'"),
        (NODE + "kind = 'embedded'\n", ":1: devices: expected [{ name, speed, memory }]: an embedded node"),
        (NODE + "kind = 'embedded'\ndevices = []\n", ":4: devices: expected [{ name, speed, memory }]: an embedded node"),
        (EMBEDDED + "host = 'x'\n", ":5: host: expected no such key: an embedded node runs on loopback"),
        (NODE + "address = 'atlas.lab'\n", ":3: address: expected an IP address"),
        (NODE + "interface = 'eth 0'\n", ":3: interface: expected the name of a network interface"),
        (NODE + "state_dir = 'there'\n", ":3: state_dir: expected a path on the node"),
        (NODE + "env = { A = 1 }\n", ":3: env: expected a table of texts"),
        (NODE + "read_only = 'yes'\n", ":3: read_only: expected true or false"),
        (NODE + "hours = '20-7'\n", ':3: hours: expected hours of a day such as "20:00-07:00"'),
        (NODE + "hours = '20:00-24:00'\n", ':3: hours: expected hours of a day such as "20:00-07:00"'),
        (NODE + "hours = '08:00-08:00'\n", ":3: hours: expected hours of a day"),
        (NODE + "hours = 8\n", ":3: hours: expected hours of a day"),
        (NODE + "tags = 'fast'\n", ":3: tags: expected a list of texts"),
        (NODE + "devices = 3\n", ":3: devices: expected a list of tables, got 3"),
        (NODE + "devices = [3]\n", ":3: devices: expected a table, got 3"),
        (NODE + "devices = [\n { name = 'd', speed = 1, memory = '12 gigs' },\n]\n", ":4: memory: expected a size such as"),
        (
            NODE + "devices = [\n { name = 'd', speed = 1, memory = '1GiB' },\n { name = 'e', memory = '1GiB' },\n]\n",
            ":5: speed: expected name, speed and memory for every device",
        ),
        (NODE + "devices = [{ name = 'd', speed = 0, memory = '1GiB' }]\n", ":3: speed: expected a number above 0"),
        (NODE + "devices = [{ name = 'd', speed = nan, memory = '1GiB' }]\n", ":3: speed: expected a number"),
        (
            NODE + "devices = [{ name = 'd', sped = 1, memory = '1GiB' }]\n",
            ":3: sped: unknown key of a device: did you mean 'speed'?",
        ),
        (EMBEDDED + "[[node.fault]]\nat_step = 5\n", ":5: slowdown: expected at_step and slowdown for every fault"),
        (EMBEDDED + "[[node.fault]]\nat_step = 5\nslowdown = 1.0\n", ":7: slowdown: expected a factor above 1"),
        (
            EMBEDDED + "[[node.fault]]\nat_step = 5\nslowdown = 2\nuntil_step = 5\n",
            ":8: until_step: expected a step after at_step = 5",
        ),
        (
            EMBEDDED + "[[node.fault]]\nat_step = 5\nslowdown = 2\ndevice = 1\n",
            ":8: device: expected the index of one of the 1 devices",
        ),
        (
            EMBEDDED + "[[node.fault]]\nat_step = 5\nslowdown = 2\ncause = 'rust'\n",
            ":8: cause: expected one of thermal, compute, backward, data, host-to-device, host, network, got 'rust'",
        ),
        (NODE + "devices = [{ name = 'd', speed = 1, memory = '1GiB', noise = 2 }]\n", ":3: noise: expected a relative standard"),
        (NODE + "devices = [{ name = 'd', speed = 1, memory = '1GiB', fixed = 5 }]\n", ":3: fixed: expected a time of up to 10 s"),
        (
            NODE + "devices = [{ name = 'd', speed = 1, memory = '1GiB', outliers = -1 }]\n",
            ":3: outliers: expected a fraction from 0",
        ),
        (
            NODE + "devices = [{ name = 'd', speed = 1, memory = '1GiB', rate = 430 }]\n",
            ':3: rate: expected samples per second such as "430/s", got 430',
        ),
        ("[defaults]\nname = 'x'\n" + NODE, ":2: name: unknown key of [defaults]"),
        ("defaults = 1\n" + NODE, ":1: defaults: expected a table, got 1"),
        ("[[node]]\nname = 'a\n", ":2: not TOML:"),
        ("[[node]]\nname = 'a'\nname = 'b'\n", ":3: not TOML: Cannot overwrite a value"),
        ("x = " + "[" * 5000, ":1: not TOML: nested too deeply"),
    ],
)
def test_an_error_names_its_line_and_the_expected_value(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, text).startswith(said)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        read_inventory(tmp_path / "missing.toml")
    with pytest.raises(ConfigurationError, match="Is a directory"):
        read_inventory(tmp_path)
    (tmp_path / "nodes.toml").write_bytes(b"[[node]]\nname = 'caf\xe9'\n")
    with pytest.raises(ConfigurationError, match=r"nodes\.toml:2: expected UTF-8 text, got byte 0xe9"):
        read_inventory(tmp_path / "nodes.toml")


VALUES = st.sampled_from(
    [
        '""',
        "0",
        "-1",
        "1e400",
        "nan",
        "true",
        "[]",
        "[[]]",
        "{}",
        "1979-05-27",
        '"\\u0000"',
        '"-x"',
        "99999999999999999999",
        '"12GiB"',
    ]
)


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """A good file with lines dropped, doubled and swapped, values replaced, and bytes cut or planted."""
    lines = LAB.splitlines()
    for _ in range(draw(st.integers(0, 4))):
        index = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["drop", "double", "swap", "value", "key"])):
            case "drop":
                lines.pop(index)
            case "double":
                lines.insert(index, lines[index])
            case "swap":
                other = draw(st.integers(0, len(lines) - 1))
                lines[index], lines[other] = lines[other], lines[index]
            case "value":
                lines[index] = lines[index].split("=")[0] + "= " + draw(VALUES)
            case "key":
                lines[index] = draw(st.text(max_size=8)) + lines[index]
        lines = lines or [""]
    data = bytearray("\n".join(lines).encode("utf-8", "replace"))
    if data and draw(st.booleans()):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


@settings(deadline=None)
@given(data=mutated_files())
def test_no_file_ends_in_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.toml"
    path.write_bytes(data)
    names, said = ["none"], f"{path}"
    try:
        names = [node.name for node in read_inventory(path).nodes]
    except ConfigurationError as error:
        said = str(error)
    assert said.startswith(f"{path}")
    assert said.isprintable()
    assert names
    assert len(set(names)) == len(names)


def test_a_line_is_found_in_headers_lists_and_nested_tables() -> None:
    tomllib.loads(LAB)
    lines = LAB.splitlines()
    assert "port" in lines[line_of(LAB, ("node", 0, "port")) - 1]
    assert "GTX 1650" in lines[line_of(LAB, ("node", 1, "devices", 1, "speed")) - 1]
    assert "slowdown" in lines[line_of(LAB, ("node", 1, "fault", 0, "slowdown")) - 1]
    assert lines[line_of(LAB, ("node", 1, "nothing")) - 1] == "[[node]]"


def inventory_of(*names: str) -> Inventory:
    return Inventory("/lab/nodes.toml", tuple(NodeSpec(name) for name in names))


def test_a_node_set_picks_nodes_in_the_order_of_the_file() -> None:
    lab = inventory_of("lab1", "lab2", "atlas", "lab3", "lab10")
    assert [node.name for node in select_nodes(lab, "lab[2-3],atlas").nodes] == ["lab2", "atlas", "lab3"]
    assert [node.name for node in select_nodes(lab, " lab[1,10] ").nodes] == ["lab1", "lab10"]


def test_leading_zeros_and_suffixes_are_kept() -> None:
    assert expand_node_set("n[08-10]-ib") == {"n08-ib", "n09-ib", "n10-ib"}


@pytest.mark.parametrize("text", ["", ",", "lab[", "lab]", "lab[a-b]", "lab[3-1]", "lab[1-99999999]", "lab[]", "a b", "lab[1][2]"])
def test_a_broken_node_set_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is not a node set"):
        expand_node_set(text)


def test_an_unknown_node_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UsageError, match=r"no node 'atlsa'.*did you mean atlas"):
        select_nodes(inventory_of("atlas", "lab1"), "lab1,atlsa")


@given(st.text(max_size=30))
def test_any_text_is_a_node_set_or_refused(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert expand_node_set(text)


def test_an_emulated_network_is_read_with_its_units(tmp_path: Path) -> None:
    text = LAB + '[link]\nlatency = "2 ms"\nbandwidth = "1 Gbit/s"\njitter = 0.05\n'
    assert read_inventory(write(tmp_path, text)).link == LinkSpec(latency=0.002, bandwidth=125e6, jitter=0.05)
    assert read_inventory(write(tmp_path, LAB)).link is None


@pytest.mark.parametrize(
    ("link", "told"),
    [
        ('latency = "2 ms"', "bandwidth: expected latency and bandwidth"),
        ('latency = 2\nbandwidth = "1 Gbit/s"', "latency: expected a time"),
        ('latency = "2 ms"\nbandwidth = "fast"', "bandwidth: expected a bandwidth"),
        ('latency = "2 ms"\nbandwidth = "1 Gbit/s"\njitter = 2', "jitter: expected a relative"),
        ('latency = "2 ms"\nbandwith = "1 Gbit/s"', "did you mean 'bandwidth'"),
    ],
)
def test_a_wrong_network_is_refused_with_its_key(tmp_path: Path, link: str, told: str) -> None:
    assert told in refusal(tmp_path, LAB + f"[link]\n{link}\n")


CLUSTER = NODE + "kind = 'slurm'\nhost = 'login'\npartitions = ['gpu', 'cpu']\naccount = 'lab'\ntime_limit = '1:00:00'\n"


def test_a_cluster_is_its_login_node_and_a_slot_for_each_machine_of_a_class(tmp_path: Path) -> None:
    emulated = "{ name = 'RTX 3060', nodes = 2, constraint = 'rtx', speed = 2.0, memory = '12GiB' }"
    classes = f"class = [{emulated}, {{ name = 'A100', gpus = 4 }}]\n"
    login, *slots = read_inventory(write(tmp_path, CLUSTER + classes)).nodes
    assert (login.kind, login.read_only, login.partitions, login.slot) == ("slurm", True, ("gpu", "cpu"), None)
    assert [slot.name for slot in slots] == ["a-rtx3060-1", "a-rtx3060-2", "a-a100-1"]
    asked = [slot.slot for slot in slots if slot.slot is not None]
    assert {(one.login, one.partition, one.account, one.time_limit) for one in asked} == {("a", "gpu", "lab", "1:00:00")}
    assert [one.gres for one in asked] == ["", "", "gpu:4"]
    assert [len(slot.devices) for slot in slots] == [1, 1, 0]
    assert not any(slot.read_only for slot in slots)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("partitions = []\n", "names of partitions"),
        ("account = 'a b'\n", "one name of Slurm"),
        ("time_limit = 'soon'\n", "as Slurm writes it"),
        ("devices = []\n", "unknown key"),
        ("class = [{ nodes = 2 }]\n", "expected a name"),
        ("class = [{ name = 'A', constraint = \"a; rm\" }]\n", "words of Slurm without spaces"),
        ("class = [{ name = 'A', speed = 1.0 }]\n", "expected speed and memory"),
        ("class = [{ name = 'A', nodes = 0 }]\n", "from 1 to 1024"),
        ("class = [{ name = 'A' }, { name = 'a' }]\n", "is taken"),
    ],
)
def test_a_wrong_key_of_a_cluster_is_refused_with_its_line(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_inventory(write(tmp_path, NODE + "kind = 'slurm'\n" + line))


def test_a_slot_that_is_named_keeps_its_login_node_and_a_login_node_has_all_its_slots(tmp_path: Path) -> None:
    path = write(tmp_path, CLUSTER + "class = [{ name = 'A', nodes = 3 }]\n[[node]]\nname = 'b'\n")
    for only, names in (("a-a-2", ["a", "a-a-2"]), ("a", ["a", "a-a-1", "a-a-2", "a-a-3"]), ("b", ["b"])):
        assert [node.name for node in load_inventory(path, only).nodes] == names
    assert [node.name for node in load_inventory(path, None, devices="a-a-[1-2]").nodes] == ["a", "a-a-1", "a-a-2"]
