"""The integer program for hosts joined by a tree of links (a pair, a chain, a star, a tree)."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from partc.optimizer.instance import CodecOption, Net
from partc.optimizer.linear import ONE, ZERO, Affine, Sum
from partc.optimizer.placement_model import Flow, PlacementModel
from partc.optimizer.problem import NO_CODEC
from partc.optimizer.routes import Routes


class TreeModel(PlacementModel):
    """For each link, `beyond` says whether a unit is on the side away from the root.

    A tensor crosses a link when its source and one of its readers are on different sides.
    """

    def prepare(self) -> None:
        """Sides of all units on all links, and the monotone rule on them."""
        self.routes = Routes(self.problem)
        index = {name: position for position, name in enumerate(self.problem.host_names)}
        self.links = [
            (index[parent], index[name], {index[host] for host in self.routes.behind(name)})
            for name in self.routes.order
            if (parent := self.routes.parent[name]) is not None
        ]
        self.beyond = [
            [self._side(places, k) for places in self.at] for k in range(len(self.links))
        ]
        if self.problem.constraints.monotone:
            self._add_monotone()

    def _side(self, places: dict[int, Affine], link: int) -> Affine:
        behind = self.links[link][2]
        inside = [place for host, place in places.items() if host in behind]
        if len(inside) == len(places):
            return ONE
        if len(inside) <= 1:
            return inside[0] if inside else ZERO
        outside = [place for host, place in places.items() if host not in behind]
        if len(outside) == 1:
            return ONE.minus(outside[0])
        side = self.linear.variable("s")
        total = Sum()
        total.add(side)
        for place in inside:
            total.add(place, -1.0)
        self.linear.equal(Affine(tuple(total.terms.items())), -total.constant)
        return side

    def _add_monotone(self) -> None:
        for net in self.instance.nets:
            if net.source_unit is None:
                continue
            for reader in net.reader_units:
                for side in self.beyond:
                    step = side[reader].minus(side[net.source_unit])
                    if step.terms or step.constant < 0:
                        self.linear.at_least(step)

    def add_net(self, net: Net) -> None:
        """One flow per link direction that some reader may need."""
        for link, (parent, child, behind) in enumerate(self.links):
            if net.source_unit is not None:
                source = self.beyond[link][net.source_unit]
            else:
                source = ONE if net.source_host in behind else ZERO
            readers = [self.beyond[link][unit] for unit in net.reader_units]
            answers = [ONE if host in behind else ZERO for host in net.reader_hosts]
            outward = [reader.minus(source) for reader in readers + answers]
            back_readers = readers
            if self.problem.constraints.monotone and net.source_unit is not None:
                back_readers = []
            inward = [source.minus(reader) for reader in back_readers + answers]
            self._add_flow(net, parent, child, outward)
            self._add_flow(net, child, parent, inward)

    def _add_flow(self, net: Net, sender: int, receiver: int, needs: list[Affine]) -> None:
        needs = list(dict.fromkeys(need for need in needs if need.terms or need.constant > 0))
        if not needs:
            return
        names = self.problem.host_names
        seconds_per_byte, latency_s = self.routes.cost(names[sender], names[receiver])
        if net.fixed_s is None:
            options = self.instance.codec_options(net.tensor, sender, receiver)
            fixed_s = self.instance.fixed_s(net.tensor, receiver, latency_s)
            seconds = {o.name: o.sent_bytes * seconds_per_byte + fixed_s for o in options}
            options = self.useful_options(options, seconds)
        else:
            options = [CodecOption(NO_CODEC, net.size_bytes, 0.0, 0.0, 0.0)]
            seconds = {NO_CODEC: net.fixed_s[sender]}
        if len(options) == 1 and len(needs) == 1 and not needs[0].terms:
            flows = [ONE]
        else:
            several = len(options) > 1
            flows = [
                self.linear.variable("f", integer=several)
                if self.affordable(sender, receiver, seconds[option.name], option)
                else ZERO
                for option in options
            ]
            for need in needs:
                row = Sum()
                for flow in flows:
                    row.add(flow)
                row.add(need, -1.0)
                self.linear.at_least(Affine(tuple(row.terms.items()), row.constant))
        for option, flow in zip(options, flows, strict=True):
            self._record(net, option, flow, seconds[option.name], sender, receiver)

    def _record(
        self,
        net: Net,
        option: CodecOption,
        used: Affine,
        wire_s: float,
        sender: int,
        receiver: int,
    ) -> None:
        names = self.problem.host_names
        self.flows.append(
            Flow(
                used=used,
                tensor=net.tensor,
                codec=option.name,
                loss=option.loss,
                wire_s=wire_s,
                encode_s=option.encode_s,
                decode_s=option.decode_s,
                sender=sender,
                receiver=receiver,
                load=f"{names[sender]}->{names[receiver]}",
            )
        )
        self.arrivals.setdefault((net.tensor, receiver), []).append(used)

    def chosen_codecs(self, values: npt.NDArray[np.float64]) -> dict[tuple[str, str, str], str]:
        """The codec with the largest flow on each link direction."""
        value = self.value_reader(values)
        names = self.problem.host_names
        best: dict[tuple[str, str, str], float] = defaultdict(float)
        chosen: dict[tuple[str, str, str], str] = {}
        for flow in self.flows:
            assert flow.sender is not None and flow.receiver is not None
            key = (flow.tensor, names[flow.sender], names[flow.receiver])
            amount = value(flow.used)
            if amount > best[key] + 1e-9:
                best[key] = amount
                chosen[key] = flow.codec
        return chosen
