"""Three nodes with an agent each, from credentials to answers: ``python -m examples.three_nodes``.

All three run on this machine, as a camera, a gateway and a server, speak TLS, and are joined by
emulated links. On real machines the commands are the same; only the addresses differ.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path

import onnx

from examples.models import MODELS
from partc.cli.main import run

NODES = {"camera": 40.0, "gateway": 12.0, "server": 1.0}
"""Node -> how many times slower than this machine it is emulated."""

HOST = """
[hosts.{name}]
agent = "{agent}"
slowdown = {slowdown}
"""
LINK = """
[[links]]
between = ["{one}", "{other}"]
bandwidth_mbit_s = 1      # not known yet: the measured entry takes its place
"""
EMULATED = ("--forward-mbit-s=50", "--backward-mbit-s=25", "--rtt-ms=4")


def main() -> int:
    """Run it; the exit code of the first command that fails."""
    parser = argparse.ArgumentParser(prog="python -m examples.three_nodes")
    parser.add_argument("--model", default="mobilenetv2", choices=sorted(MODELS))
    parser.add_argument("--output", type=Path, default=Path("demo-out/three-nodes"))
    given = parser.parse_args()
    output: Path = given.output
    output.mkdir(parents=True, exist_ok=True)
    own = output / "laptop"
    commands = [["agent", "--init", "--force", "--credentials", str(own)]]
    for name in NODES:
        commands.append(
            ["agent", "--init", "--force", "--credentials", str(output / name),
             "--authority", str(own), "--name", name]
        )  # fmt: skip
    if code := run_all(commands):
        return code
    model, topology, bundle = output / f"{given.model}.onnx", output / "t.toml", output / "bundle"
    onnx.save(MODELS[given.model](), model)
    with ExitStack() as stack:
        addresses = {name: start_agent(stack, output, name) for name in NODES}
        for name in ("gateway", "server"):  # these are called over a link
            addresses[name] = start_link(stack, addresses[name])
        topology.write_text(described(addresses), encoding="utf-8")
        known = ["--credentials", str(own)]
        asked = ["--topology", str(topology), *known]
        links = [
            measured_link(["link", "gateway", "--budget", "6", *asked]),
            measured_link(["link", "server", "--from", "gateway", "--budget", "6", *asked]),
        ]
        topology.write_text(described(addresses, links), encoding="utf-8")
        print(f"\n{topology} is now\n{topology.read_text(encoding='utf-8')}")
        return run_all(
            [
                ["profile", str(model), "--host", "gateway", "-q", *asked],
                ["compile", str(model), *asked, "--output", str(bundle), "--force"],
                ["deploy", str(bundle), *known],
                ["run", str(bundle), "--repeat", "20", *known],
            ]
        )


def run_all(commands: Iterable[list[str]]) -> int:
    """Run commands of partc until one fails."""
    for command in commands:
        print(f"\n$ partc {shlex.join(command)}", flush=True)
        if code := run(command):
            return code
    return 0


def start_agent(stack: ExitStack, output: Path, name: str) -> str:
    """Start ``partc agent`` as a process that ends with the stack; where it listens."""
    command = ["agent", "--listen", "127.0.0.1:0", "--credentials", str(output / name),
               "--state", str(output / f"{name}-state"), "--json"]  # fmt: skip
    print(f"\n$ partc {shlex.join(command)} &", flush=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "partc.cli", *command], stdout=subprocess.PIPE, text=True
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("}"):
            address: str = json.loads(text)["address"]
            return address
    sys.exit(f"the agent of {name} did not start")


def start_link(stack: ExitStack, address: str) -> str:
    """Emulate a link in front of an agent; where it is reached through it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "partc.runtime.relay", *EMULATED, f"--to=127.0.0.1:0={address}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    stack.callback(process.wait)
    stack.callback(process.terminate)
    assert process.stdout is not None
    (relayed,) = json.loads(process.stdout.readline())
    return str(relayed)


def measured_link(command: list[str]) -> str:
    """The entry for the topology that ``partc link`` prints."""
    print(f"\n$ partc {shlex.join(command)}", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "partc.cli", *command, "--json"], stdout=subprocess.PIPE, check=True
    )
    entry: str = json.loads(done.stdout)["topology"]
    print(entry)
    return entry


def described(addresses: dict[str, str], links: Sequence[str] = ()) -> str:
    """The topology: a chain of the nodes."""
    hosts = (
        HOST.format(name=name, agent=address, slowdown=NODES[name])
        for name, address in addresses.items()
    )
    unknown = [LINK.format(one=one, other=other) for one, other in pairwise(addresses)]
    return "".join((*hosts, *(f"\n{link}\n" for link in links or unknown)))


if __name__ == "__main__":
    sys.exit(main())
