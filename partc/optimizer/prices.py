"""What a tensor costs between two hosts, with its cheapest codec."""

from __future__ import annotations

import math

from partc.optimizer.instance import Instance
from partc.optimizer.problem import NO_CODEC
from partc.optimizer.routes import Routes


def pair_prices(instance: Instance) -> dict[str, tuple[float, float]]:
    """For two hosts, each net's seconds from host 0 to host 1 and back.

    Under the monotone rule, the way back towards the root is infinitely expensive between ops.
    """
    routes = Routes(instance.problem)
    backwards = 1 if routes.root == instance.problem.host_names[0] else 0
    prices = {}
    for net in instance.nets:
        pair = [_cheapest(instance, routes, net.tensor, sender)[0] for sender in (0, 1)]
        between_ops = net.source_unit is not None and net.reader_units and not net.reader_hosts
        if instance.problem.constraints.monotone and between_ops:
            pair[backwards] = math.inf
        prices[net.tensor] = (pair[0], pair[1])
    return prices


def cheapest_codecs(instance: Instance) -> dict[tuple[str, str, str], str]:
    """The codec of each (tensor, from, to) of two hosts, where it is not to send as it is."""
    routes = Routes(instance.problem)
    names = instance.problem.host_names
    chosen = {}
    for net in instance.nets:
        for sender in (0, 1):
            codec = _cheapest(instance, routes, net.tensor, sender)[1]
            if codec != NO_CODEC:
                chosen[net.tensor, names[sender], names[1 - sender]] = codec
    return chosen


def _cheapest(instance: Instance, routes: Routes, tensor: str, sender: int) -> tuple[float, str]:
    names = instance.problem.host_names
    seconds_per_byte, latency_s = routes.cost(names[sender], names[1 - sender])
    fixed_s = instance.fixed_s(tensor, 1 - sender, latency_s)
    price_s, name = math.inf, NO_CODEC
    for option in instance.codec_options(tensor, sender, 1 - sender):
        wire_s = option.sent_bytes * seconds_per_byte + fixed_s
        total_s = wire_s + option.encode_s + option.decode_s
        if total_s < price_s:
            price_s, name = total_s, option.name
    return price_s, name
