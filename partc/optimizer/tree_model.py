"""The integer program for hosts joined by a tree of links (a pair, a chain, a star, a tree)."""

from __future__ import annotations

from partc.optimizer.instance import Net
from partc.optimizer.linear import ONE, ZERO, Affine, Sum
from partc.optimizer.link_model import LinkModel
from partc.optimizer.routes import Routes


class TreeModel(LinkModel):
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
        certain = len(needs) == 1 and not needs[0].terms
        flows = self.open_flows(net, sender, receiver, certain=certain)
        if flows == [ONE]:
            return
        for need in needs:
            row = Sum()
            for flow in flows:
                row.add(flow)
            row.add(need, -1.0)
            self.linear.at_least(row.expression())
