"""Small random graphs with arcs over blocks: residual joins, branches, plain ops."""

from __future__ import annotations

import itertools
import random
from typing import Any


def random_graph(
    seed: int, *, blocks: int = 3, servers: int = 2, links: str = "mesh", tilings: int = 1
) -> dict[str, Any]:
    """Blocks between cut tensors t0, t1, ...; costs and sizes compete, so optima mix everything.

    `links` is "mesh", "star" (over the device), "chain" or "bus".
    """
    generator = random.Random(seed)
    hosts = ["device", *(f"s{number}" for number in range(servers))]
    tensors: dict[str, float] = {"t0": generator.randint(1, 20)}
    ops: list[dict[str, Any]] = []

    def op(inputs: list[str], output: str) -> None:
        cost_s = {
            host: generator.randint(1, 20) * (2.0 if host == "device" else 1.0) for host in hosts
        }
        if generator.random() < 0.1:
            del cost_s[generator.choice(hosts)]
        weights = [f"w{generator.randrange(4)}" for _ in range(generator.choice([0, 1, 2]))]
        ops.append(
            {
                "name": f"op{len(ops)}",
                "inputs": inputs,
                "outputs": [output],
                "cost_s": cost_s,
                "weights": sorted(set(weights)),
            }
        )
        tensors[output] = generator.choice([0, 1, 2, 5, 10, 2.5])

    for number in range(blocks):
        before, after = f"t{number}", f"t{number + 1}"
        kind = generator.choice(["plain", "plain", "residual", "branches"])
        if kind == "plain":
            op([before], after)
        elif kind == "residual":
            op([before], f"a{number}")
            op([f"a{number}", before], after)
        else:
            op([before], f"a{number}")
            op([before], f"b{number}")
            op([f"a{number}", f"b{number}"], after)
    names = []
    for number in range(tilings):
        chosen = generator.sample(hosts, generator.choice([2, min(3, len(hosts))]))
        shares = [generator.uniform(0.5, 2.0) for _ in chosen]
        total = sum(shares)
        names.append(
            {
                "name": f"v{number}",
                "hosts": chosen,
                "shares": [share / total for share in shares],
            }
        )
    arcs = []
    for tiling in names:
        count = len(tiling["hosts"])
        for first, last in itertools.combinations(range(blocks + 1), 2):
            if generator.random() < 0.2:
                continue
            arc: dict[str, Any] = {
                "entry": f"t{first}",
                "exit": f"t{last}",
                "tiling": tiling["name"],
                "tile_s": [generator.uniform(1, 8) * (last - first) for _ in range(count)],
            }
            arc["entry_bytes"] = [generator.choice([0, 1, 2, 5]) for _ in range(count)]
            if first > 0:
                arc["halo_bytes"] = {
                    source["name"]: [
                        [generator.choice([0, 0, 1, 2]) for _ in range(count)]
                        for _ in source["hosts"]
                    ]
                    for source in names
                    if source is tiling or generator.random() < 0.5
                }
                if generator.random() < 0.2:
                    del arc["entry_bytes"]
            arcs.append(arc)
    data: dict[str, Any] = {
        "hosts": [
            {
                "name": host,
                "power_active_w": generator.choice([1.0, 3.0]),
                "power_tx_w": generator.choice([0.0, 0.5]),
                "power_rx_w": generator.choice([0.0, 0.2]),
                "power_idle_w": generator.choice([0.0, 0.1]),
            }
            for host in hosts
        ],
        "tensors": [{"name": name, "size_bytes": size} for name, size in tensors.items()],
        "weights": [{"name": f"w{n}", "size_bytes": generator.randint(1, 9)} for n in range(4)],
        "ops": ops,
        "inputs": {"t0": "device"},
        "outputs": {f"t{blocks}": generator.choice(["device", "device", hosts[-1]])},
        "tilings": names,
        "arcs": arcs,
        "constraints": {},
    }
    if blocks > 1 and generator.random() < 0.2:
        data["outputs"]["t1"] = "device"
        data["arcs"] = [a for a in arcs if not (a["entry"] == "t0" and a["exit"] != "t1")]
    for tensor in data["tensors"]:
        if generator.random() < 0.1:
            tensor["shares_message"] = True
        if generator.random() < 0.1:
            tensor["extra_s"] = {generator.choice(hosts): 1.5}
    _join(data, hosts, links, generator)
    return data


def _join(data: dict[str, Any], hosts: list[str], links: str, generator: random.Random) -> None:
    if links == "bus":
        data["bus"] = {"hosts": hosts, "serial": generator.random() < 0.5}
        for host in data["hosts"]:
            host["bus_seconds_per_byte"] = generator.choice([0.0, 0.3, 1.0])
            host["bus_latency_s"] = generator.choice([0.0, 0.5])
        return
    pairs = {
        "mesh": list(itertools.combinations(hosts, 2)),
        "star": [(hosts[0], host) for host in hosts[1:]],
        "chain": list(itertools.pairwise(hosts)),
    }[links]
    data["links"] = [
        {
            "between": list(pair),
            "seconds_per_byte": [generator.choice([0.1, 0.5, 1.0, 2.0]) for _ in range(2)],
            "latency_s": [generator.choice([0.0, 1.0]), 0.5],
        }
        for pair in pairs
    ]
    if generator.random() < 0.4:
        data["shared_ports"] = generator.sample(hosts, generator.choice([1, 2]))
