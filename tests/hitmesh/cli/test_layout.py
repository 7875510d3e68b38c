"""What a mesh on this machine consists of, and the supervisord.conf that comes of it."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hitmesh import config as settings
from hitmesh.cli import folder
from hitmesh.cli.layout import Layout, Options, lay_out, supervisor_text
from hitmesh.config import Config, Ports, Scaler, nexus_endpoints
from hitmesh.config.scaler import Collectors, Processors
from hitmesh.errors import CommandError
from hitmesh.protocol.messages import MAX_FRAME_BYTES

TEMPLATE = settings.load(folder.shipped("config/dev.toml"))
ROLES = (
    "supervisord",
    "balancer",
    "collector",
    "processor",
    "nexus",
    "dashboard",
    "recorder",
    "scaler",
    "beanstalkd",
    "consul",
)


def options(*, state_dir: str = "/srv/mesh", **changes: Any) -> Options:
    plain = Options(
        dcs=["eu-west", "us-west"],
        state_dir=Path(state_dir),
        socket=Path(state_dir) / "supervisor.sock",
        base_port=8000,
        python="/usr/bin/python3",
        consul=None,
        beanstalkd=None,
        open_files=4096,
    )
    return msgspec.structs.replace(plain, **changes)


def whole(**changes: Any) -> Options:
    return options(consul="/usr/bin/consul", beanstalkd="/usr/bin/beanstalkd", **changes)


def laid_out(chosen: Options, template: Config = TEMPLATE) -> Layout:
    return lay_out(template, chosen, source="dev.toml")


def shipped_text(role: str) -> str:
    return folder.shipped(f"supervisor/{role}.conf").read_text()


def supervisor_conf(chosen: Options) -> str:
    return supervisor_text(laid_out(chosen), chosen, {name: shipped_text(name) for name in ROLES})


def parsed(chosen: Options) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"))
    parser.read_string(supervisor_conf(chosen))
    return parser


def programs(parser: configparser.RawConfigParser) -> dict[str, Mapping[str, str]]:
    return {name.partition(":")[2]: parser[name] for name in parser.sections() if name.startswith("program:")}


def test_each_instance_of_each_datacenter_is_a_program() -> None:
    found = programs(parsed(options()))
    roles = (
        "balancer-1",
        "collector-1",
        "collector-2",
        "processor-1",
        "processor-2",
        "nexus-1",
        "nexus-2",
        "dashboard-1",
        "recorder-1",
    )
    assert sorted(found) == sorted(f"{dc}-{role}" for dc in ("eu-west", "us-west") for role in roles)


def test_a_role_is_started_with_its_config_its_name_and_the_state_folder() -> None:
    command = shlex.split(programs(parsed(options()))["us-west-collector-2"]["command"])
    assert command == [
        "/usr/bin/python3", "-m", "hitmesh", "collector",
        "--config", "/srv/mesh/us-west/hitmesh.toml", "--name", "collector-2", "--state-dir", "/srv/mesh",
    ]  # fmt: skip


def test_no_two_programs_want_the_same_port() -> None:
    ports = [(wanted.address, wanted.port) for wanted in laid_out(whole()).ports]
    assert len(set(ports)) == len(ports)


def test_each_datacenter_has_a_hundred_ports_from_the_base_port_on() -> None:
    layout = laid_out(whole(base_port=20_000))
    for wanted in layout.ports:
        first = 20_000 if wanted.who.startswith("eu-west") else 20_100
        assert first <= wanted.port < first + 100


def test_every_port_that_a_configuration_names_is_checked_before_the_start() -> None:
    layout = laid_out(options())
    wanted = {wanted.port for wanted in layout.ports}
    for config in layout.datacenters:
        assert {each.port for each in config.instances("collector")} <= wanted
        for balancer in config.instances("balancer"):
            assert {balancer.port, balancer.tls_port, balancer.admin_port} - {None} <= wanted
        for role in ("collector", "processor", "nexus", "recorder"):
            admin = {each.admin_port for each in config.instances(role)}
            assert None not in admin  # whatever the template says
            assert admin <= wanted
        for nexus in config.instances("nexus"):
            assert nexus.port is not None
            assert {nexus.port, nexus.port + 1, nexus.port + 2} <= wanted
        for dashboard in config.instances("dashboard"):
            assert dashboard.port is not None
            assert {dashboard.port, dashboard.port + 1} <= wanted
        for recorder in config.instances("recorder"):
            assert recorder.port is not None
            assert {recorder.port, recorder.port + 1} <= wanted


def test_the_written_configuration_is_the_template_with_its_own_name_and_ports() -> None:
    layout = laid_out(options())
    written = settings.parse(tomllib.loads(layout.files[Path("/srv/mesh/us-west/hitmesh.toml")]), source="written")
    assert written == layout.datacenters[1]
    assert (written.name, written.ports) == (
        "us-west",
        Ports(
            balancer=8100,
            balancer_tls=0,
            balancer_admin=8105,
            collector=8110,
            collector_admin=8180,
            processor_admin=8190,
            nexus=8120,
            nexus_admin=8142,
            dashboard=8170,
            recorder=8154,
            recorder_admin=8165,
            scaler_admin=8148,
        ),
    )
    assert written.keys == "/srv/mesh/keys"
    assert msgspec.structs.replace(written, name=TEMPLATE.name, ports=TEMPLATE.ports, peers={}, keys="") == TEMPLATE


def test_a_template_has_no_keys_where_it_says_so_and_others_where_it_names_them() -> None:
    def keys_of(**settings: object) -> str:
        return lay_out(msgspec.structs.replace(TEMPLATE, **settings), options(), source="x").datacenters[0].keys

    assert keys_of(insecure=True) == ""
    assert keys_of(keys="/etc/keys") == "/etc/keys"


def test_each_datacenter_is_told_where_the_nexuses_of_the_others_take_heartbeats() -> None:
    layout = laid_out(options(dcs=["eu-west", "us-west", "ap-south"]))
    heartbeats = {
        config.name: tuple(
            nexus_endpoints(each).heartbeats.removeprefix("tcp://") for each in config.instances("nexus")
        )
        for config in layout.datacenters
    }
    assert heartbeats["us-west"] == ("127.0.0.1:8120", "127.0.0.1:8123")
    for config in layout.datacenters:
        text = layout.files[Path("/srv/mesh") / config.name / "hitmesh.toml"]
        written = settings.parse(tomllib.loads(text), source="written")
        assert written.peers == {dc: at for dc, at in heartbeats.items() if dc != config.name}


def test_a_datacenter_alone_has_no_peers_nor_those_of_its_template() -> None:
    template = msgspec.structs.replace(TEMPLATE, peers={"elsewhere": ("10.0.0.1:8020",)})
    assert laid_out(options(dcs=["eu-west"]), template).datacenters[0].peers == {}


def test_peers_on_ipv6_are_in_brackets() -> None:
    node = msgspec.structs.replace(TEMPLATE.nodes["local"], address="::1")
    layout = laid_out(options(), msgspec.structs.replace(TEMPLATE, nodes={"local": node}))
    assert layout.datacenters[0].peers["us-west"] == ("[::1]:8120", "[::1]:8123")
    settings.parse(tomllib.loads(layout.files[Path("/srv/mesh/eu-west/hitmesh.toml")]), source="written")


def test_with_consul_the_others_are_found_in_its_catalogue_and_every_server_joins_every_other() -> None:
    layout = laid_out(options(dcs=["eu-west", "us-west", "ap-south"], consul="consul"))
    agents = {
        config.name: json.loads(layout.files[Path("/srv/mesh") / config.name / "consul.json"])
        for config in layout.datacenters
    }
    assert [config.peers for config in layout.datacenters] == [{}, {}, {}]
    wan = {dc: f"127.0.0.1:{agent['ports']['serf_wan']}" for dc, agent in agents.items()}
    for dc, agent in agents.items():
        assert sorted(agent["retry_join_wan"]) == sorted(at for other, at in wan.items() if other != dc)


def test_live_settings_are_in_consul_too_under_a_prefix_of_their_own() -> None:
    stores = laid_out(options(consul="consul")).datacenters[1].stores
    assert (stores.totals, stores.settings) == (
        "consul://127.0.0.1:8150/hitmesh", "consul://127.0.0.1:8150/hitmesh-settings",
    )  # fmt: skip


def test_a_datacenter_that_was_scaled_starts_with_as_many() -> None:
    layout = laid_out(options(counts={"us-west": {"collector": 4}}))
    assert [len(config.instances("collector")) for config in layout.datacenters] == [2, 4]
    names = [program.full_name for program in layout.programs if program.role == "collector"]
    assert names == [*(f"eu-west-collector-{n}" for n in (1, 2)), *(f"us-west-collector-{n}" for n in (1, 2, 3, 4))]


def test_dashboards_and_balancers_stop_first_and_stores_last() -> None:
    priorities = {name: int(program["priority"]) for name, program in programs(parsed(whole())).items()}
    order = [
        "consul-1",
        "beanstalkd-1",
        "nexus-1",
        "recorder-1",
        "processor-1",
        "collector-1",
        "balancer-1",
        "dashboard-1",
    ]  # supervisord stops the last first
    assert [priorities[f"eu-west-{name}"] for name in order] == sorted({priorities[f"eu-west-{n}"] for n in order})


def test_supervisord_waits_longer_than_a_role_drains() -> None:
    for name, program in programs(parsed(options())).items():
        assert int(program["stopwaitsecs"]) > TEMPLATE.timing.drain_s, name
        assert (program["autorestart"], program["stopsignal"], program["killasgroup"]) == ("true", "TERM", "true")


@pytest.mark.parametrize("name", ["eu-west-collector-1", "eu-west-balancer-1"])
def test_a_role_of_several_processes_is_told_to_stop_through_its_master_alone(name: str) -> None:
    # It drains its workers itself; a TERM to all would end a worker twice.
    assert programs(parsed(options()))[name].get("stopasgroup") == "false"


def test_a_balancer_is_a_program_of_its_own_package() -> None:
    command = shlex.split(programs(parsed(options()))["us-west-balancer-1"]["command"])
    assert command == [
        "/usr/bin/python3", "-m", "balancer",
        "--config", "/srv/mesh/us-west/hitmesh.toml", "--name", "balancer-1", "--state-dir", "/srv/mesh",
    ]  # fmt: skip


def test_a_template_with_certificates_gets_https_ports_and_finds_its_files(tmp_path: Path) -> None:
    template = tmp_path / "site.toml"
    text = folder.shipped("config/dev.toml").read_text()
    text = text.replace("balancer_tls = 0", "balancer_tls = 443").replace("balancer_admin = 8005", "balancer_admin = 0")
    template.write_text(text.replace("certificates = []", 'certificates = ["site.pem"]'))
    layout = laid_out(whole(), settings.load(template))
    written = settings.parse(tomllib.loads(layout.files[Path("/srv/mesh/us-west/hitmesh.toml")]), source="written")
    assert (written.ports.balancer_tls, written.ports.balancer_admin) == (8160, 0)
    assert written.balancer.tls.certificates == (str(tmp_path / "site.pem"),)
    ports = [(wanted.address, wanted.port) for wanted in layout.ports]
    assert len(set(ports)) == len(ports)
    assert ("127.0.0.1", 8160) in ports


def test_beanstalkd_syncs_each_put_and_takes_the_largest_job() -> None:
    command = shlex.split(programs(parsed(whole()))["eu-west-beanstalkd-2"]["command"])
    arguments = dict(zip(command[1::2], command[2::2], strict=True))
    assert arguments["-f"] == "0"
    assert int(arguments["-z"]) > MAX_FRAME_BYTES
    assert (arguments["-l"], arguments["-p"], arguments["-b"]) == (
        "127.0.0.1",
        "8041",
        "/srv/mesh/eu-west/beanstalkd-2",
    )


def test_with_beanstalkd_the_spool_is_the_pair() -> None:
    layout = laid_out(options(beanstalkd="beanstalkd"))
    assert layout.datacenters[1].stores.spools == (
        "beanstalk://127.0.0.1:8140/hitmesh",
        "beanstalk://127.0.0.1:8141/hitmesh",
    )
    assert layout.datacenters[1].stores.totals == TEMPLATE.stores.totals


def test_with_consul_each_datacenter_has_a_server_that_joins_the_others() -> None:
    layout = laid_out(options(consul="/usr/bin/consul"))
    assert layout.datacenters[0].stores.totals == "consul://127.0.0.1:8050/hitmesh"
    assert layout.datacenters[1].stores.settings == "consul://127.0.0.1:8150/hitmesh-settings"
    agent = json.loads(layout.files[Path("/srv/mesh/eu-west/consul.json")])
    assert (agent["datacenter"], agent["ports"]["http"], agent["bootstrap_expect"]) == ("eu-west", 8050, 1)
    assert agent["retry_join_wan"] == ["127.0.0.1:8152"]


def test_a_single_consul_server_joins_nobody() -> None:
    layout = laid_out(options(consul="/usr/bin/consul", dcs=["here"]))
    assert json.loads(layout.files[Path("/srv/mesh/here/consul.json")])["retry_join_wan"] == []


@pytest.mark.parametrize("odd", ["/srv/my mesh/100%/it's", "/srv/%(here)s", "/srv/%(ENV_HOME)s", "/srv/münchen;#"])
def test_a_state_folder_with_odd_characters_survives_supervisords_syntax(odd: str) -> None:
    parser = parsed(whole(state_dir=odd))
    for name, program in programs(parser).items():
        command = shlex.split(program["command"] % {})  # as supervisord expands it
        assert any(odd in part for part in command), name
        assert program["stdout_logfile"] % {} % {} == f"{odd}/log/{name}.log"  # which it expands twice
    assert parser["supervisord"]["pidfile"] % {} == f"{odd}/supervisord.pid"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/srv/site #1", "what follows ' #' is a comment to supervisord"),
        ("/srv/a\u2003;b", "has a character that isn't printable"),
        ("/srv/a ;b", "what follows ' ;' is a comment to supervisord"),
        ("/srv/a\nb", "has a character that isn't printable"),
        ("/srv/\udcff", "has a character that isn't printable"),
        ("/srv/mesh ", "ends with a space"),
        ("/srv/" + "m/" * 200, "is longer than 380 bytes"),
    ],
)
def test_a_state_folder_that_cannot_be_written_there_is_refused(path: str, message: str) -> None:
    with pytest.raises(CommandError, match=f"(?s)^--state-dir .*{re.escape(message)}"):
        laid_out(options(state_dir=path))


def test_so_is_a_program() -> None:
    with pytest.raises(CommandError, match=r"^the program /opt/py ;3/python: what follows ' ;'"):
        laid_out(options(python="/opt/py ;3/python"))


def test_logs_are_in_the_state_folder() -> None:
    parser = parsed(whole())
    assert parser["supervisord"]["logfile"] == "/srv/mesh/log/supervisord.log"
    for name, program in programs(parser).items():
        assert program["stdout_logfile"] == f"/srv/mesh/log/{name}.log"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dcs": ["EU"]}, "--dcs: 'EU' can't name a datacenter"),
        ({"dcs": ["../x"]}, "--dcs: '../x' can't name a datacenter"),
        ({"dcs": ["log"]}, "--dcs: log can't name a datacenter"),
        ({"dcs": ["a", "a"]}, "--dcs: 'a,a' must name each datacenter once"),
        ({"dcs": ["a", ""]}, "--dcs: '' can't name a datacenter"),
        ({"base_port": 65_400}, "--base-port 65400: 2 datacenters need ports up to 65599"),
    ],
)
def test_what_cannot_be_laid_out_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CommandError) as raised:
        laid_out(options(**changes))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"balancer": 6}, "dev.toml: 6 balancer instances; `hitmesh up` has ports for 5"),
        ({"collector": 11}, "dev.toml: 11 collector instances; `hitmesh up` has ports for 10"),
        ({"dashboard": 6}, "dev.toml: 6 dashboard instances; `hitmesh up` has ports for 5"),
        ({"nexus": 7}, "dev.toml: 7 nexus instances; `hitmesh up` has ports for 6"),
        ({"address": "10.0.0.1"}, "dev.toml: nodes.local.address is 10.0.0.1"),
    ],
)
def test_a_template_for_more_than_this_machine_is_refused(node: dict[str, object], message: str) -> None:
    changed = msgspec.structs.replace(TEMPLATE.nodes["local"], **node)
    with pytest.raises(CommandError) as raised:
        laid_out(options(), msgspec.structs.replace(TEMPLATE, nodes={"local": changed}))
    assert str(raised.value).startswith(message)


def test_what_a_scaler_may_start_has_a_program_that_nobody_starts_and_a_port() -> None:
    node = msgspec.structs.replace(TEMPLATE.nodes["local"], scaler=1)
    scaler = Scaler(collector=Collectors(max=4), processor=Processors(max=3))
    chosen = options(dcs=["eu-west"])
    layout = laid_out(chosen, msgspec.structs.replace(TEMPLATE, nodes={"local": node}, scaler=scaler))
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=True)
    parser.read_string(supervisor_text(layout, chosen, {name: shipped_text(name) for name in ROLES}))
    started = {name: program["autostart"] for name, program in programs(parser).items()}
    spare = [f"eu-west-{name}" for name in ("collector-3", "collector-4", "processor-3")]
    assert [name for name, word in started.items() if word != "true"] == sorted(spare, key=list(started).index)
    assert {name: started[name] for name in spare} == dict.fromkeys(spare, "false")
    assert {each.port for each in layout.ports if each.who == "eu-west-collector-4"} == {8013, 8083}
    assert parser["program:eu-west-collector-4"]["autorestart"] == "true", "one that dies is started again"


@pytest.mark.parametrize(("most", "says"), [(11, "dev.toml: 11 collector instances; `hitmesh up` has ports for 10")])
def test_a_scaler_that_may_start_more_than_there_are_ports_for_is_refused(most: int, says: str) -> None:
    node = msgspec.structs.replace(TEMPLATE.nodes["local"], scaler=1)
    changed = msgspec.structs.replace(TEMPLATE, nodes={"local": node}, scaler=Scaler(collector=Collectors(max=most)))
    with pytest.raises(CommandError) as raised:
        laid_out(options(), changed)
    assert str(raised.value).startswith(says)


def test_supervisords_socket_is_in_the_state_folder(tmp_path: Path) -> None:
    short = Path("/srv/mesh")
    assert folder.new_socket_path(short) == short / "supervisor.sock"


def test_a_deep_state_folder_gets_a_socket_with_a_shorter_path() -> None:
    deep = Path("/srv") / ("x" * 120)
    path = folder.new_socket_path(deep)
    assert len(str(path)) <= folder.MAX_SOCKET_PATH_BYTES
    assert path == folder.new_socket_path(deep)
    assert path != folder.new_socket_path(deep / "y")
