"""The command line: what each command prints, its exit codes, and one line for each failure."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from rich.table import Table
from rich.text import Text

import sncontroller
from sncontroller.cli import main, manual, shell, tables
from sncontroller.config import load, schema
from sncontroller.lab.programs import dies_with_parent
from tests.unit.conftest import CONFIG, Served

ROOT = Path(__file__).parents[2]
Cli = Callable[..., Result]


@pytest.fixture
def cli() -> Cli:
    """The command in this process, without the environment's hints."""
    runner = CliRunner(env={"OVS_DB": None, "OVS_RUNDIR": None, "SNCONTROLLER_API": None})

    def invoke(*arguments: str | Path) -> Result:
        return runner.invoke(main, list(map(str, arguments)), prog_name="sncontroller")

    return invoke


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A right configuration."""
    path = tmp_path / "sn.yaml"
    path.write_text(CONFIG)
    return path


def failure(result: Result) -> tuple[int, str]:
    """Exit code and standard error, of a command that printed nothing else."""
    assert result.stdout == ""
    return result.exit_code, result.stderr.removesuffix("\n")


# The whole ---------------------------------------------------------------------------------------


def test_help_shows_the_commands_in_the_order_of_work(cli: Cli) -> None:
    """With examples and the way to completion."""
    result = cli("--help")
    names = re.findall(r"^  (\w+) {2,}\S", result.stdout.partition("Commands:")[2], re.MULTILINE)
    assert result.exit_code == 0
    assert names[:6] == ["run", "check", "plan", "diff", "attach", "detach"]
    assert "sncontroller attach br0" in result.stdout
    assert "_SNCONTROLLER_COMPLETE=bash_source" in result.stdout


@pytest.mark.parametrize("arguments", [[], ["hypervisor"]])
def test_without_a_command(cli: Cli, arguments: list[str]) -> None:
    """Its help, as it is; exit code 2."""
    code, said = failure(cli(*arguments))
    assert (code, said.partition(" [OPTIONS]")[0]) == (
        2,
        " ".join(["Usage: sncontroller", *arguments]),
    )


def test_ctrl_c_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have come in the middle of an import, which fails if it is gone on with."""
    monkeypatch.setitem(sys.modules, "sncontroller.config", None)
    assert shell._failure(click.Abort()) == ([], shell.INTERRUPTED)


def test_version(cli: Cli) -> None:
    """One line."""
    assert cli("--version").stdout == f"sncontroller {sncontroller.__version__}\n"


@pytest.mark.parametrize("name", list(main.commands))
def test_every_command_has_help(cli: Cli, name: str) -> None:
    """Long and short."""
    long, short = cli(name, "--help"), cli(name, "-h")
    assert long.exit_code == 0
    assert long.stdout == short.stdout
    assert long.stdout.startswith(f"Usage: sncontroller {name}")


def test_the_manual_is_up_to_date() -> None:
    """docs/cli.md is what the commands say: python -m sncontroller.cli.manual > docs/cli.md."""
    assert (ROOT / "docs" / "cli.md").read_text() == manual.page()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["chek"], "no such command 'chek'"),
        (["check"], "missing argument 'FILE'; see sncontroller check --help"),
        (["check", "a", "b"], "got unexpected extra argument (b); see sncontroller check --help"),
        (["plan", "x", "--nodes", "0"], "invalid value for '--nodes': 0 is not in the range"),
        (
            ["plan", "x", "--port", "vm1"],
            "invalid value for '--port': 'vm1' must be NAME=NUMBER; see sncontroller plan --help",
        ),
        (
            ["plan", "x", "--port", "vm1=x"],
            "invalid value for '--port': 'vm1=x' must be NAME=NUMBER; see",
        ),
        (
            ["plan", "x", "--mac", "vm1=52:54"],
            "invalid value for '--mac': 'vm1=52:54' must be NAME=MAC; see",
        ),
        (
            ["run", "x", "--listen", "6653"],
            "invalid value for '--listen': '6653' must be HOST:PORT, as 127.0.0.1:6653; "
            "see sncontroller run --help",
        ),
        (
            ["scale", "web", "many"],
            "'many' must be a number of nodes, at least 1, or auto; see sncontroller scale --help",
        ),
        (["hypervisor", "chek"], "no such command 'chek'"),
    ],
)
def test_wrong_usage(cli: Cli, arguments: list[str], line: str) -> None:
    """One line, which names the command's help; exit code 2."""
    code, said = failure(cli(*arguments))
    assert code == 2
    assert said.startswith(f"sncontroller: {line}")
    assert "\n" not in said


# From a file -------------------------------------------------------------------------------------


def test_check_a_right_file(cli: Cli, file: Path) -> None:
    """Says so, and which groups are in it."""
    result = cli("check", file)
    assert (result.exit_code, result.stdout) == (0, f"{file}: right; groups: web, dns\n")
    assert json.loads(cli("check", file, "--json").stdout) == {
        "ok": True,
        "groups": ["web", "dns"],
        "problems": [],
    }


def test_check_a_wrong_file(cli: Cli, file: Path) -> None:
    """A line per problem, exit code 2."""
    file.write_text(CONFIG.replace("max: 4", "max: x").replace("vm2", "a-port-with-a-long-name"))
    lines = [
        "groups.web.scaling.max: must be a whole number, not 'x' (line 7)",
        "groups.dns.primary.port: must be the name of an OVS port, 1 to 15 characters, "
        "not 'a-port-with-a-long-name' (line 12)",
    ]
    assert failure(cli("check", file)) == (2, "\n".join(lines))
    result = cli("check", file, "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["problems"][0] == {
        "path": "groups.web.scaling.max",
        "message": "must be a whole number, not 'x'",
        "line": 7,
    }


@pytest.mark.parametrize("command", ["check", "plan", "run"])
def test_a_file_that_is_not_there(cli: Cli, command: str, tmp_path: Path) -> None:
    """Its name and the reason, from every command."""
    path = tmp_path / "nothing.yaml"
    assert failure(cli(command, path)) == (2, f"{path}: there is no such file")


def test_plan_says_what_it_assumed(cli: Cli, file: Path) -> None:
    """In comments, so that the lines can be loaded as they are."""
    lines = cli("plan", file, "--group", "web", "--nodes", "2").stdout.splitlines()
    comments = [line for line in lines if line.startswith("#")]
    number = load(file).groups[0].zone
    assert comments[:3] == [
        f"# group web: number {number}, 2 nodes, pinning conntrack",
        "# port vm1 (the primary) is assumed to be number 1",
        f"# port sn{number:04x}-2 (node 2) is assumed to be number 2",
    ]
    assert comments[3] == "# 3 groups: ovs-ofctl -O OpenFlow13 add-groups"
    entries = [line for line in lines if line not in comments]
    assert [line.startswith("group_id=") for line in entries[:4]] == [True, True, True, False]
    assert all(line.startswith("cookie=0x534e") for line in entries[3:])


def test_plan_takes_what_is_known(cli: Cli, file: Path) -> None:
    """Port numbers and hardware addresses go into the entries."""
    known = ("--port", "vm2=77", "--mac", "vm2=52:54:00:AB:cd:ef")
    (plan,) = json.loads(cli("plan", file, "--group", "dns", "--json", *known).stdout)
    assert plan["assumptions"] == []
    assert "set_field:52:54:00:ab:cd:ef->eth_dst,output:77" in plan["groups"][1]


@pytest.mark.parametrize("option", ["--port=vm9=5", "--mac=vm9=52:54:00:00:00:09"])
def test_plan_knows_the_ports_that_it_is_told_of(cli: Cli, file: Path, option: str) -> None:
    """A typing error is no assumption."""
    code, said = failure(cli("plan", str(file), "--group", "web", "--nodes", "2", option))
    assert code == 2
    assert re.fullmatch(r"sncontroller: no port vm9 in this plan; there are: vm1, sn\w+-2", said)


def test_plan_in_parts(cli: Cli, file: Path) -> None:
    """Groups alone, flows alone; together they are all."""
    whole = json.loads(cli("plan", file, "--json").stdout)
    groups = json.loads(cli("plan", file, "--json", "--groups-only").stdout)
    flows = json.loads(cli("plan", file, "--json", "--flows-only").stdout)
    assert [{**g, **f} for g, f in zip(groups, flows, strict=True)] == whole
    assert "cookie=" not in cli("plan", file, "--groups-only").stdout
    assert "group_id=" not in cli("plan", file, "--flows-only").stdout


def test_plan_of_a_group_that_is_not_there(cli: Cli, file: Path) -> None:
    """Names those that are."""
    assert failure(cli("plan", file, "--group", "www")) == (
        2,
        f"sncontroller: no group www in {file}; there are: web, dns",
    )


def test_schema(cli: Cli) -> None:
    """What the library says."""
    assert json.loads(cli("schema").stdout) == json.loads(json.dumps(schema()))


def test_hypervisors_are_asked(cli: Cli, file: Path) -> None:
    """Groups without one are told apart from those whose hypervisor does not answer."""
    file.write_text(CONFIG.replace("bridge: br0", "bridge: br0, ovsdb: 'unix:/nowhere/db.sock'"))
    result = cli("hypervisor", "list", file)
    assert result.stdout == "dns: no hypervisor\n"
    if result.exit_code:
        assert result.exit_code == 2
        assert result.stderr.startswith("web: netns: ")
    answers = json.loads(cli("hypervisor", "list", file, "--json").stdout)
    assert [answer["plugin"] for answer in answers] == ["netns", None]


# A controller that runs --------------------------------------------------------------------------


def test_status(cli: Cli, served: Served) -> None:
    """A title and a line per node; the same as JSON."""
    result = cli("status", "--api", served.url)
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0].startswith("dns  10.0.0.53 on br0: 1 of 1 nodes")
    assert any(re.search(r"web-1 +primary +active +- +256", line) for line in lines)
    shown = json.loads(cli("status", "--api", served.url, "--json").stdout)
    assert [group["name"] for group in shown["groups"]] == ["dns", "web"]
    one = json.loads(cli("status", "web", "--api", served.url, "--json").stdout)
    assert [group["name"] for group in one["groups"]] == ["web"]


def test_status_says_loudly_that_the_breaker_holds(cli: Cli, served: Served) -> None:
    """And why so many nodes are wanted, and what ends it."""
    status = json.loads(cli("status", "web", "--api", served.url, "--json").stdout)
    why = "held in rotation: 1; looks dead, but no other node could serve"
    held = {"held": ["web-1"], "held_reason": why, "override": 2, "wanted": 2}
    (group,) = status["groups"]
    shown = tables.rendered({**status, "groups": [{**group, **held, "reason": "asked for"}]})
    lines = [str(part) for part in shown.renderables if isinstance(part, Text)]
    assert lines[1] == "  wanted: 2, asked for; set by hand until: sncontroller scale web auto"
    assert lines[2] == f"  BREAKER: {why}"


def test_status_says_how_a_serving_node_does_now(cli: Cli, served: Served) -> None:
    """Not why it came in once; of another one, why it is in its state."""
    status = json.loads(cli("status", "web", "--api", served.url, "--json").stdout)
    (group,) = status["groups"]
    (node,) = group["nodes"]
    health = {**node["health"], "reason": "1 of 3 probes failed, last: no answer"}
    told = {"health": health, "reason": "an operator asked for it"}
    for state, reason in (("active", health["reason"]), ("draining", told["reason"])):
        nodes = [{**node, **told, "state": state}]
        shown = tables.rendered({**status, "groups": [{**group, "nodes": nodes}]})
        (table,) = (part for part in shown.renderables if isinstance(part, Table))
        assert list(table.columns[-1].cells) == [reason]


def test_scale_and_verbs(cli: Cli, served: Served) -> None:
    """What an operator sees of each."""
    api = ("--api", served.url)
    assert cli("scale", "web", "3", *api).stdout == "web wants 3 nodes; 3 serve\n"
    drained = cli("drain", "web", "3", *api).stdout
    assert drained == "web-3 is draining: an operator asked for it\n"
    assert cli("undrain", "web", "web-3", *api).stdout.startswith("web-3 is active: ")
    assert cli("fail", "web", "2", *api).exit_code == 0
    automatic = json.loads(cli("scale", "web", "auto", *api, "--json").stdout)
    assert (automatic["name"], automatic["override"]) == ("web", None)


def test_what_the_controller_refuses(cli: Cli, served: Served) -> None:
    """Exit code 1 for what cannot be done now, 2 for what is not there."""
    api = ("--api", served.url)
    assert failure(cli("undrain", "web", "1", *api)) == (
        1,
        "sncontroller: web-1 is active: cannot undrain it",
    )
    assert failure(cli("scale", "web", "9", *api)) == (
        1,
        "sncontroller: web has between 1 and 4 nodes (scaling.min, .max)",
    )
    assert failure(cli("drain", "wbe", "1", *api)) == (
        2,
        "sncontroller: no group 'wbe'; there are: dns, web",
    )
    assert failure(cli("status", "w b", *api)) == (
        2,
        "sncontroller: no group 'w b'; there are: dns, web",
    )


def test_events(cli: Cli, served: Served) -> None:
    """A line each, with who and why."""
    cli("scale", "web", "2", "--api", served.url)
    lines = cli("events", "web", "--api", served.url).stdout.splitlines()
    assert any(re.search(r"^\d{4}-\d\d-\d\d [\d:]{8}  web-2 +active ", line) for line in lines)
    listed = json.loads(cli("events", "web", "--api", served.url, "--json").stdout)
    assert len(listed) == len(lines)
    assert {event["group"] for event in listed} == {"web"}


def test_events_are_followed(served: Served) -> None:
    """What happens later is printed as it happens, until Ctrl-C."""
    arguments = ["events", "--follow", "--json", "--api", served.url]
    with process(*arguments) as following:
        assert following.stdout is not None
        first = json.loads(following.stdout.readline())
        subprocess.run(command("scale", "web", "2", "--api", served.url), check=True)
        while json.loads(following.stdout.readline())["node"] != "web-2":
            pass
        following.send_signal(signal.SIGINT)
        assert following.wait(20) == 130
        assert first["kind"]


def test_reload(cli: Cli, served: Served) -> None:
    """Which groups changed; with a bad file, every problem, and exit code 2."""
    assert cli("reload", "--api", served.url).stdout == "reloaded; changed groups: none\n"
    served.file.write_text(CONFIG.replace("kind: none", "kind: non"))
    code, said = failure(cli("reload", "--api", served.url))
    assert code == 2
    assert said.splitlines() == [
        "groups.web.health.kind: must be none, arp, nd, icmp, tcp, udp, http or bfd, not 'non'; "
        "did you mean 'none'? (line 5)",
        "groups.dns.health.kind: must be none, arp, nd, icmp, tcp, udp, http or bfd, not 'non'; "
        "did you mean 'none'? (line 13)",
        "reload: the configuration was refused, the running one stays",
    ]


@pytest.mark.parametrize(
    "arguments",
    [["status"], ["drain", "web", "1"], ["scale", "web", "2"], ["reload"], ["events"]],
)
def test_no_controller_runs(cli: Cli, arguments: list[str]) -> None:
    """Where it was sought, and what to do."""
    assert failure(cli(*arguments, "--api", "http://127.0.0.1:9")) == (
        2,
        "sncontroller: no controller answers at http://127.0.0.1:9: connection refused; start it "
        "(sncontroller run FILE), or name its address with --api",
    )


def test_an_address_that_is_none(cli: Cli) -> None:
    """One line for nonsense, too."""
    code, said = failure(cli("status", "--api", "localhost:8080"))
    assert code == 2
    assert said.startswith("sncontroller: ")
    assert "\n" not in said


def test_somebody_else_answers(cli: Cli) -> None:
    """A web server that is not ours is recognised."""
    with subprocess.Popen(
        [
            *dies_with_parent(),
            sys.executable,
            "-u",
            "-m",
            "http.server",
            "0",
            "--bind",
            "127.0.0.1",
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd="/proc/self/fdinfo",
    ) as stranger:
        try:
            assert stranger.stdout is not None
            port = re.search(r"port (\d+)", stranger.stdout.readline())
            assert port is not None
            url = f"http://127.0.0.1:{port[1]}"
            assert failure(cli("status", "--api", url)) == (
                2,
                f"sncontroller: {url} answers, but is no sncontroller; name ours with --api",
            )
        finally:
            stranger.kill()


# As a process ------------------------------------------------------------------------------------


def command(*arguments: str) -> list[str]:
    """The command line."""
    return [sys.executable, "-m", "sncontroller.cli", *arguments]


def process(*arguments: str) -> subprocess.Popen[str]:
    """The command, running; unbuffered, as in a terminal."""
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [*dies_with_parent(), *command(*arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ran(*arguments: str) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def test_exit_codes_are_those_of_the_process(file: Path) -> None:
    """The shell sees them."""
    assert ran("check", str(file))[0] == 0
    assert ran("check", str(file.parent))[0] == 2
    assert ran("status", "--api", "http://127.0.0.1:9")[0] == 2
    assert ran("--help")[0] == 0


def test_a_reader_that_leaves_is_no_failure_to_talk_about(file: Path) -> None:
    """As in ``sncontroller plan ... | head -1``."""
    line = f"{' '.join(command('plan', str(file), '--nodes', '200'))} | head -1"
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("# group web")
    assert done.stderr == ""


def test_an_output_that_is_full(file: Path) -> None:
    """One line, and exit code 2: a script must not take half a plan for the whole."""
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command("plan", str(file)), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert (done.returncode, done.stderr) == (
        2,
        "sncontroller: cannot write: no space left on device\n",
    )


def test_a_terminal_that_has_no_bars() -> None:
    """What an old encoding cannot say is replaced."""
    lines = (
        "import click; from sncontroller.cli.shell import Commands",
        "bar = click.Command('bar', callback=lambda: click.echo(BAR))",
        "commands = Commands('sn', commands=[bar])",
        f"BAR = {tables._bar(0.5)!a}; commands.main(['bar'])",
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "iso8859-1"},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?????" in done.stdout


def test_watching_without_a_terminal(served: Served) -> None:
    """Each look is there at once, one below the other, as for ``tee``."""
    with process("status", "dns", "--watch", "0.1", "--api", served.url) as watching:
        try:
            assert watching.stdout is not None
            titles = 0
            while titles < 2:
                titles += watching.stdout.readline().startswith("dns  10.0.0.53 on br0")
        finally:
            watching.kill()


@pytest.mark.parametrize("option", ["--listen", "--rest"])
def test_run_on_a_port_in_use(file: Path, option: str) -> None:
    """One line that names the place and the option; exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = {"--listen": "--rest", "--rest": "--listen"}[option]
        code, out, err = ran(
            *("run", str(file), option, f"127.0.0.1:{port}", other, f"127.0.0.1:{free_port()}")
        )
    assert (code, out) == (2, "")
    assert err == (
        f"sncontroller: cannot listen on 127.0.0.1:{port}: address already in use; "
        f"stop what listens there, or choose another place with {option} HOST:PORT\n"
    )


def test_run_with_one_port_for_both(file: Path) -> None:
    """Neither has it yet, but both cannot."""
    place = f"127.0.0.1:{free_port()}"
    code, out, err = ran("run", str(file), "--listen", place, "--rest", place)
    assert (code, out) == (2, "")
    assert err.startswith(f"sncontroller: cannot listen on {place}: address already in use; ")


@pytest.mark.parametrize("tenths", range(0, 10, 2))
def test_run_and_ctrl_c_at_once(file: Path, tenths: int) -> None:
    """However early it comes: the controller ends with 0 and without a traceback."""
    where = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    file.write_text(re.sub(r"    hypervisor:.*?\n.*?\n", "", CONFIG).replace("max: 4", "max: 1"))
    with process("run", str(file), "--listen", where[0], "--rest", where[1]) as running:
        try:
            assert running.stderr is not None
            assert running.stderr.readline().endswith("Ctrl-C ends\n")
            time.sleep(tenths / 10)
            running.send_signal(signal.SIGINT)
            said = running.communicate(timeout=60)[1]
        finally:
            running.kill()
    assert (running.returncode, said) == (0, "")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_run_with_a_wrong_file(file: Path) -> None:
    """Nothing is started."""
    file.write_text("groups: {web: {}}")
    code, _, err = ran("run", str(file))
    assert code == 2
    assert (
        err.splitlines()[0] == "groups.web.match: is missing: which traffic is the group's (line 1)"
    )


def test_run_without_the_rights_its_plugin_needs(file: Path) -> None:
    """A line for the group whose hypervisor will never answer; exit code 2."""
    nobody = ["unshare", "--user", "--map-user=65534", "--map-group=65534"]
    done = subprocess.run(
        [*nobody, *command("run", str(file))], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "groups.web.hypervisor: the netns plugin needs root: run it with sudo or as root\n"
    )


def test_run_until_it_is_told_to_stop(file: Path) -> None:
    """The controller runs, answers status and a reload by signal, and ends with 0."""
    plugin = "    hypervisor: {plugin: rest, url: 'http://127.0.0.1:9'}\n"
    groups = re.sub(r"    hypervisor:.*?\n.*?\n", plugin, CONFIG)
    file.write_text(f"state_dir: /proc/no-directory\n{groups}")
    listen, rest = free_port(), free_port()
    where = ("--listen", f"127.0.0.1:{listen}", "--rest", f"127.0.0.1:{rest}")
    with process("run", str(file), *where) as running:
        try:
            assert running.stderr is not None
            assert running.stderr.readline() == (
                f"sncontroller {sncontroller.__version__}: groups web, dns; switches at "
                f"127.0.0.1:{listen}, status at http://127.0.0.1:{rest}; Ctrl-C ends\n"
            )
            assert "WARNING cannot keep what groups learn" in running.stderr.readline()
            for _ in range(60):
                if ran("status", "--api", f"http://127.0.0.1:{rest}")[0] == 0:
                    break
                assert running.poll() is None
            else:
                running.kill()
                raise AssertionError(f"it does not answer; it said: {running.stderr.read()}")
            api = ("--api", f"http://127.0.0.1:{rest}")
            shown = ran("status", "web", *api)[1].splitlines()[0]
            assert shown == "web  10.0.0.10: 0 of 1 nodes, waits for a switch with port vm1"
            assert ran("scale", "web", "3", *api)[1] == "web wants 3 nodes; 0 serve\n"
            assert ran("scale", "web", "1", *api)[1] == "web wants 1 node; 0 serve\n"
            with socket.create_connection(("127.0.0.1", listen), timeout=20) as switch:
                assert switch.recv(2)[1:] == b"\0"  # OpenFlow HELLO
            running.send_signal(signal.SIGHUP)
            while "reloaded" not in (line := running.stderr.readline()):
                assert "cannot" in line  # list nodes, or keep what groups learn
            running.send_signal(signal.SIGTERM)
            assert running.wait(20) == 0
        finally:
            running.kill()


# Tables ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0"), (0.25, "0.25"), (999, "999"), (1000, "1k"), (12_345_678.0, "12.3M")],
)
def test_amounts(value: float | None, text: str) -> None:
    """Three digits and a prefix."""
    assert tables.amount(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (5.9, "5s"), (60, "1m00s"), (3661, "1h01m"), (90061, "1d01h")],
)
def test_durations(seconds: float, text: str) -> None:
    """The two largest units."""
    assert tables.duration(seconds) == text
