"""What the command line alone shows to be wrong: status 2 and one line that names the field and the rule (P8).

The director that every command names does not exist: a command that came as far as asking it would end with 14.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent_common.agent_settings import read_settings
from cli.__main__ import main

Program = Callable[..., tuple[int, str, str]]

NOBODY = ("--director", "127.0.0.1:1")
VIP, RS = "192.168.0.200:80", "192.168.0.104"
KEY = "tcp/192.168.0.200:80"
LONG_AGO = 31 * 86400


@pytest.fixture
def lvs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Program]:
    """The program, in this process: its status, stdout and stderr. Nothing is set in environment or files."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("DIRECTOR", "CONFIG", "INSECURE", "RS_AGENT", "TIMEOUT", "OUTPUT"):
        monkeypatch.delenv(f"LVS_{name}", raising=False)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*argv: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["lvs", *argv])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


def add(*options: str, vip: str = VIP, rs: tuple[str, ...] = (RS,)) -> tuple[str, ...]:
    """The arguments of add-backend."""
    return (*NOBODY, "add-backend", "--vip", vip, *(word for each in rs for word in ("--rs", each)), *options)


def marked(*options: str, mark: str = "7") -> tuple[str, ...]:
    """The arguments of add-backend with a firewall mark."""
    return (*NOBODY, "add-backend", "--fwmark", mark, "--rs", RS, *options)


def edit(noun: str, *words: str) -> tuple[str, ...]:
    """The arguments of an edit."""
    return (*NOBODY, noun, "edit", *words)


def sync(*words: str) -> tuple[str, ...]:
    """The arguments of sync start."""
    return (*NOBODY, "sync", "start", *words)


def health(*words: str) -> tuple[str, ...]:
    """The arguments of health set."""
    return (*NOBODY, "health", "set", KEY, *words)


BAD: dict[str, tuple[tuple[str, ...], str]] = {
    "a kind of check": (health("--check", "ping"), "check: 'ping' is unknown; use tcp, http, https, grpc, dns, udp"),
    "an option of another kind": (
        health("--check", "tcp", "--path", "/"),
        "path: does not belong to a check of kind tcp",
    ),
    "an option that health does not have": (health("--check", "tcp", "--pace", "1"), "No such option: --pace"),
    "a number that is none": (health("--rise", "two"), "'two' is not a valid int"),
    "a check without its interval": (
        health("--interval", "1", "--check-timeout", "2"),
        "timeout: 2 s is longer than the interval (1 s)",
    ),
    "a health set without anything": (health(), "health set: give at least one option to change"),
    "health of what has no name": ((*NOBODY, "health", "show", "web"), "key: cannot read 'web'; write tcp/"),
    "no events": ((*NOBODY, "health", "log", "--limit", "0"), "limit: 0 is out of range (1 to 100000)"),
    "a kept timeout of 0": ((*NOBODY, "timeouts", "--tcp-fin", "0"), "tcp_fin: 0 s is out of range (1 to 2678400 s)"),
    "a kept timeout of a month": ((*NOBODY, "timeouts", "--udp", "2678401"), "udp: 2678401 s is out of range"),
    "a role": (sync("both", "--interface", "eth0"), "role: 'both' is not master or backup"),
    "an interface": (sync("master", "--interface", "a/b"), "interface: 'a/b' is not the name of an interface"),
    "a sync id": (sync("master", "--interface", "eth0", "--sync-id", "256"), "sync_id: 256 is out of range (0 to 255)"),
    "a long message": (
        sync("master", "--interface", "eth0", "--max-length", "65508"),
        "max_length: 65508 is out of range (1 to 65507)",
    ),
    "a group": (
        sync("master", "--interface", "eth0", "--group", "192.0.2.1"),
        "group: 192.0.2.1 is not a multicast address",
    ),
    "a group's port": (sync("master", "--interface", "eth0", "--port", "0"), "port: 0 is not a port (1 to 65535)"),
    "a ttl": (sync("master", "--interface", "eth0", "--ttl", "256"), "ttl: 256 is out of range (1 to 255)"),
    "stopping both": ((*NOBODY, "sync", "stop", "both"), "role: 'both' is not master or backup"),
    "a VIP that is no address": (add(vip="192.168.0.300:80"), "vip: '192.168.0.300' is not an IPv4 or IPv6 address"),
    "a VIP that is a name": (add(vip="www.example.net:80"), "vip: 'www.example.net' is not an IPv4 or IPv6 address"),
    "an empty VIP": (add(vip=""), "vip: '' is not an IPv4 or IPv6 address"),
    "a VIP with a prefix": (add(vip="192.168.0.200/32:80"), "vip: '192.168.0.200/32' is not an IPv4 or IPv6 address"),
    "a VIP without port": (add(vip="192.168.0.200"), "vip: '192.168.0.200' has no port; write 192.168.0.200:80"),
    "an IPv6 VIP without brackets": (add(vip="2001:db8::200"), "write an IPv6 address as [ADDRESS]:PORT"),
    "a link-local VIP": (add(vip="[fe80::1]:80"), "vip: fe80::1 is a link-local address"),
    "a VIP with a scope": (add(vip="[fe80::1%eth0]:80"), "vip: 'fe80::1%eth0' has a scope id"),
    "a multicast VIP": (add(vip="224.0.0.1:80"), "vip: 224.0.0.1 is a multicast address"),
    "a loopback virtual server": (("service", "add", "tcp/127.0.0.1:80"), "key: 127.0.0.1 is a loopback address"),
    "a loopback destination": (("destination", "add", KEY, "127.0.0.1"), "rs: 127.0.0.1 is a loopback address"),
    "a loopback VIP": (add(vip="127.0.0.2:80"), "vip: 127.0.0.2 is a loopback address"),
    "the unspecified VIP": (add(vip="0.0.0.0:80"), "vip: 0.0.0.0 is the unspecified address"),
    "a mapped VIP": (add(vip="[::ffff:192.168.0.200]:80"), "is an IPv4-mapped address; write 192.168.0.200"),
    "port 65536": (add(vip="192.168.0.200:65536"), "vip: 65536 is not a port (0 to 65535)"),
    "a negative port": (add(vip="192.168.0.200:-1"), "vip: '-1' is not a port (0 to 65535)"),
    "a port by name": (add(vip="192.168.0.200:http"), "vip: 'http' is not a port (0 to 65535)"),
    "an empty port": (add(vip="192.168.0.200:"), "vip: '' is not a port (0 to 65535)"),
    "a real server that is no address": (add(rs=("rs1",)), "rs: 'rs1' is not an IPv4 or IPv6 address"),
    "a real server's bad port": (add(rs=(f"{RS}:0x50",)), "rs: '0x50' is not a port (0 to 65535)"),
    "a real server twice": (add(rs=(RS, RS)), f"rs: {RS}:80 is given twice"),
    "a real server twice, with its port": (add(rs=(RS, f"{RS}:80")), f"rs: {RS}:80 is given twice"),
    "a real server that is the VIP": (add(rs=("192.168.0.200",)), "rs: 192.168.0.200 is the VIP itself"),
    "dr across families": (add(rs=("2001:db8::104",)), "differ in family; only tunnelling joins them"),
    "nat across families": (add("--forward", "nat", rs=("2001:db8::104",)), "only tunnelling joins them"),
    "dr to another port": (add(rs=(f"{RS}:8080",)), f"port: dr cannot translate ports: {RS}:8080 must have port 80"),
    "tun to another port": (add("--forward", "tun", rs=(f"{RS}:8080",)), "port: tun cannot translate ports"),
    "a scheduler that no kernel has": (add("--scheduler", "best"), "scheduler: 'best' is unknown; use one of "),
    "a forwarding method": (add("--forward", "fullnat"), "forward: 'fullnat' is unknown; use dr, nat or tun"),
    "a protocol": (add("--protocol", "icmp"), "protocol: 'icmp' is unknown; use tcp, udp or sctp"),
    "a mode of the VIP": (add("--vip-mode", "vrrp"), "vip_mode: 'vrrp' is unknown; use agent or external"),
    "a weight below 0": (add("--weight", "-1"), "weight: -1 is out of range (0 to 2147483647)"),
    "a weight beyond the kernel's": (add("--weight", "2147483648"), "weight: 2147483648 is out of range"),
    "a weight that is no number": (add("--weight", "heavy"), "'--weight': 'heavy'"),
    "no persistence at all": (add("--persistent", "0"), "persistence timeout: 0 s is out of range (1 to 2678400 s)"),
    "persistence for 32 days": (add("--persistent", str(LONG_AGO + 1)), "is out of range (1 to 2678400 s)"),
    "a lease of 4 s": (add("--lease", "4"), "lease: 4 s is out of range (5 to 900 s)"),
    "a lease of 16 minutes": (add("--lease", "960"), "lease: 960 s is out of range (5 to 900 s)"),
    "a ready timeout below 0": (add("--ready-timeout", "-1"), "ready_timeout: -1 s is out of range (0 to 3600 s)"),
    "a ready timeout that is no number": (add("--ready-timeout", "nan"), "ready_timeout: nan s is out of range"),
    "a timeout of 0": (add("--timeout", "0"), "timeout: 0"),
    "a timeout of 2 hours": (add("--timeout", "7200"), "s is out of range (above 0, to 3600 s)"),
    "a timeout without end": (add("--timeout", "inf"), "timeout: inf s is out of range"),
    "a lock timeout below 0": (("--lock-timeout", "-1", *add()), "lock_timeout: -1"),
    "a format": (add("--output", "yaml"), "output: 'yaml' is unknown; use table or json"),
    "an edit to a weight below 0": (edit("destination", KEY, RS, "--weight", "-1"), "weight: -1 is out of range"),
    "an edit to a weight of 99999999999": (
        edit("destination", KEY, RS, "--weight", "99999999999"),
        "out of range (0 to",
    ),
    "an edit to a threshold below 0": (edit("destination", KEY, RS, "--upper-threshold", "-1"), "upper_threshold: -1"),
    "an edit to a prefix length below 0": (
        edit("service", KEY, "--persistence-prefix", "-1"),
        "'-1' is not a prefix length, nor an IPv4 mask such as 255.255.255.0",
    ),
    "an engine for TCP": (edit("service", KEY, "--persistence-engine", "x"), "'x' is unknown; the kernel has sip"),
    "an edit to a mask of IPv6": (
        edit("service", "udp/[2001:db8::1]:53", "--persistence-prefix", "255.0.0.0"),
        "persistence netmask: IPv6 takes a prefix length",
    ),
    "an edit to a prefix length of 33": (edit("service", KEY, "--persistence-prefix", "33"), "out of range (0 to 32)"),
    "an edit to a scheduler that no kernel has": (edit("service", KEY, "--scheduler", "best"), "scheduler: 'best' is"),
    "an edit that changes nothing": (edit("service", KEY), "give at least one option to change"),
    "a VIP on the same real server twice": ((*NOBODY, "vip", "add", "192.168.0.200", "--rs", RS, "--rs", RS), "twice"),
    "an option that is not there": (add("--wait"), "No such option: --wait"),
    "no VIP": ((*NOBODY, "add-backend", "--rs", RS), "vip: must be given, or fwmark or fwmark6"),
    "a VIP and a mark": (add("--fwmark", "7"), "vip: vip and fwmark exclude each other"),
    "a mark of two families": (marked("--fwmark6", "7"), "vip: fwmark and fwmark6 exclude each other"),
    "a mark that is none": (marked(mark="0"), "Invalid value for '--fwmark': 0 is not in the range 1<=x<=4294967295."),
    "a mark with a protocol": (marked("--protocol", "udp"), "protocol: goes with --vip; a mark takes every protocol"),
    "a VIP with a VIP": (add("--vip-address", "192.168.0.201"), "vip_address: goes with a mark"),
    "a VIP of another family than the mark": (
        marked("--vip-address", "2001:db8::200"),
        "vip_address: 2001:db8::200 is not of the mark's family (fwmark: IPv4, fwmark6: IPv6)",
    ),
    "a VIP of a mark twice": (
        marked("--vip-address", "192.168.0.200", "--vip-address", "192.168.0.200"),
        "vip_address: 192.168.0.200 is given twice",
    ),
    "a VIP of a mark as real server": (marked("--vip-address", RS), f"rs: {RS} is the VIP itself"),
    "a VIP to adopt beside an address": (
        (*NOBODY, "adopt", "tcp/192.168.0.200:80", "--vip-address", "192.168.0.201"),
        "vip_address: goes with a mark; tcp/192.168.0.200:80 names its own address",
    ),
    "no real server": (add(rs=()), "Missing option '--rs'"),
    "a command that is not there": ((*NOBODY, "add-backends"), "No such command 'add-backends'"),
    "no director": (add()[2:], "director: none is given, and no agent runs on this host"),
    "a director's port 0": (("--director", "127.0.0.1:0", *add()[2:]), "director: 0 is not a port (1 to 65535)"),
    "a director twice": ((*NOBODY, *add()), "director: 127.0.0.1:1 is given twice"),
    "a relative socket": (("--director", "unix:x.sock", *add()[2:]), "a unix socket needs an absolute path"),
    "two directors with one VIP": (
        ("--director", "127.0.0.1:2", *add("--vip-mode", "agent")),
        "vip_mode: agent with several directors",
    ),
    "an agent without address": (("--rs-agent", RS, *add()), f"rs_agent: cannot read '{RS}'; write RIP=HOST:PORT"),
    "an agent of nobody": (("--rs-agent", "rs1=10.0.0.1:1", *add()), "rs_agent: 'rs1' is not an IPv4 or IPv6 address"),
    "another host without TLS": (("--director", "192.0.2.1", *add()[2:]), "192.0.2.1:9710 needs --tls-ca"),
    "one TLS file of three": (("--tls-ca", "/x", *add()), "tls_cert: must be given too"),
    "a drain timeout below 0": (
        (*NOBODY, "remove-backend", "--vip", VIP, "--rs", RS, "--drain-timeout", "-1"),
        "drain_timeout: -1 s is out of range (0 to 86400 s)",
    ),
    "the weight of a command of its own": (
        (*NOBODY, "weight", "--vip", VIP, "--rs", RS, "--", "-1"),
        "weight: -1 is out of range (0 to 2147483647)",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_it_is_told_in_one_line_and_no_agent_is_asked(lvs: Program, what: str) -> None:
    """Status 2, nothing on stdout, and the rule on stderr."""
    argv, rule = BAD[what]
    status, stdout, stderr = lvs(*argv)
    assert (status, stdout) == (2, "")
    told = [line for line in stderr.splitlines() if not line.startswith(("Usage:", "Try "))]
    assert [line for line in told if line] == [told[-1]]
    assert rule in told[-1]
    assert "Traceback" not in stderr


@pytest.mark.parametrize("argv", [add(vip="192.168.0.300:80"), add("--wait"), ("no-such-command",)])
@pytest.mark.parametrize("option", [("--output", "json"), ("--output=json",)])
def test_a_script_that_asked_for_json_gets_its_document(
    lvs: Program, argv: tuple[str, ...], option: tuple[str, ...]
) -> None:
    """Whatever is wrong, and whether the option stands before the command or after it."""
    for words in ((*option, *argv), (*argv, *option)):
        status, stdout, stderr = lvs(*words)
        document = json.loads(stdout)
        assert (status, document["exit_status"], document["status"]) == (2, 2, "invalid")
        assert document["message"] in stderr


def test_json_may_be_the_settings_choice(lvs: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LVS_OUTPUT", "json")
    assert json.loads(lvs(*add(vip="192.168.0.300:80"))[1])["exit_status"] == 2


def test_the_installed_program_ends_with_the_same_status() -> None:
    """Not only in this process."""
    program = Path(sys.executable).parent / "lvs"
    done = subprocess.run([program, *add(vip="192.168.0.300:80")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "lvs: vip: '192.168.0.300' is not an IPv4 or IPv6 address\n"


def test_without_an_error_the_director_is_asked(lvs: Program) -> None:
    """The control: a good command gets as far as the director that is not there."""
    status, _, stderr = lvs(*add("--timeout", "1"))
    assert status == 14
    assert "director 127.0.0.1:1: cannot connect" in stderr


SETTINGS: dict[str, tuple[str, str]] = {
    "an unknown key": ('directors = ["lb1"]\n', "directors: unknown key in"),
    "another type": ("timeout = true\n", "timeout: must be a number"),
    "a number for a text": ("output = 5\n", "output: must be a text"),
    "a list of numbers": ("director = [1, 2]\n", "director: must be a text or a list of texts"),
    "no TOML": ("director = \n", "config: cannot read"),
    "a value that no flag takes": ('output = "xml"\n', "output: 'xml' is unknown"),
    "a time out of range": ("timeout = 0\n", "timeout: 0"),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_a_settings_file_is_checked_like_the_flags(lvs: Program, what: str, tmp_path: Path) -> None:
    """Whether it was named, or is the user's default: status 2, naming key and file."""
    text, rule = SETTINGS[what]
    for path, options in ((tmp_path / "mine.toml", ("--config", str(tmp_path / "mine.toml"))), (default(tmp_path), ())):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        status, stdout, stderr = lvs(*options, *add())
        assert (status, stdout) == (2, "")
        assert stderr.count("\n") == 1
        assert rule in stderr
        assert str(path) in stderr or "out of range" in stderr or "is unknown; use" in stderr
        path.unlink()


def default(folder: Path) -> Path:
    """The user's default settings file."""
    return folder / "lvs/cli.toml"


def test_a_settings_file_that_was_named_must_exist(lvs: Program, tmp_path: Path) -> None:
    """The default ones may be missing, this one not."""
    status, _, stderr = lvs("--config", str(tmp_path / "none.toml"), *add())
    assert status == 2
    assert f"config: cannot read {tmp_path / 'none.toml'}: there is no such file" in stderr


def test_a_variable_is_checked_like_a_flag(lvs: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 2, naming the variable."""
    monkeypatch.setenv("LVS_TIMEOUT", "soon")
    status, _, stderr = lvs(*add())
    assert status == 2
    assert "timeout: must be a number, in LVS_TIMEOUT" in stderr


AGENT: dict[str, tuple[str, tuple[str, ...], str]] = {
    "an unknown key": ('state = "/x"\n', (), "state: unknown key in"),
    "another type": ('insecure = "yes"\n', (), "insecure: must be true or false"),
    "an endpoint that cannot be read": ('listen = ["[::1"]\n', (), "listen: cannot read '[::1'"),
    "a port out of range": ("", ("--listen", "127.0.0.1:70000"), "listen: 70000 is not a port"),
    "the world without TLS": ("", ("--listen", "192.0.2.1"), "needs --tls-ca, --tls-cert and --tls-key; or --insecure"),
    "one TLS file of three": ('tls_key = "/x"\n', (), "tls_ca: must be given too"),
}


@pytest.mark.parametrize("program", ["lvs-director", "lvs-realserver"])
@pytest.mark.parametrize("what", AGENT)
def test_an_agents_settings_are_checked_before_it_serves(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, program: str, what: str
) -> None:
    """Status 2 and one line that begins with the program's name."""
    text, options, rule = AGENT[what]
    path = tmp_path / "agent.toml"
    path.write_text(text)
    with pytest.raises(SystemExit) as ended:
        read_settings(program, 9710, ["--config", str(path), *options])
    said = capsys.readouterr()
    assert (ended.value.code, said.out) == (2, "")
    assert said.err.startswith(f"{program}: ")
    assert said.err.count("\n") == 1
    assert rule in said.err


def test_an_agents_settings_file_that_was_named_must_exist(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """An agent that served with defaults instead would listen where nobody meant it to."""
    with pytest.raises(SystemExit) as ended:
        read_settings("lvs-director", 9710, ["--config", str(tmp_path / "none.toml")])
    assert ended.value.code == 2
    assert "config: cannot read" in capsys.readouterr().err
