"""The integer program for hosts whose links close rings.

`passed[t, m, n]` says that tensor t, which arises on host m, arrives on host n, to be read there or
to be passed on. As in facility location, what arrives from m needs the producer there, and what is
read on n must have arrived from somewhere; no big-M.
"""

from __future__ import annotations

from partc.optimizer.instance import Net
from partc.optimizer.linear import ONE, ZERO, Affine, Sum
from partc.optimizer.link_model import LinkModel
from partc.optimizer.routes import Routes


class MeshModel(LinkModel):
    """Each host's ways to all others form a tree, on which a shared beginning is paid once."""

    def prepare(self) -> None:
        """The ways as indices, and the monotone rule."""
        self.routes = Routes(self.problem)
        names = self.problem.host_names
        index = {name: position for position, name in enumerate(names)}
        self._before = [
            {index[host]: index[sender] for host, sender in self.routes.before(name).items()}
            for name in names
        ]
        if self.problem.constraints.monotone:
            self._add_monotone()

    def _add_monotone(self) -> None:
        """A reader is only where the way from its producer leads no nearer to the root."""
        names = self.problem.host_names
        reached_from = [
            [m for m in self.hosts if self.routes.stays_or_leaves(names[m], names[n])]
            for n in self.hosts
        ]
        for net in self.instance.nets:
            if net.source_unit is None:
                continue
            source = self.at[net.source_unit]
            for reader in net.reader_units:
                for host, place in self.at[reader].items():
                    row = Sum()
                    for sender in reached_from[host]:
                        row.add(source.get(sender, ZERO))
                    row.add(place, -1.0)
                    if row.terms or row.constant < 0:
                        self.linear.at_least(row.expression())

    def add_net(self, net: Net) -> None:
        """Ways from every host where the tensor may arise to all where it may be read."""
        source = self.source_places(net)
        readers = self.reader_places(net)
        wanted = dict.fromkeys(host for places in readers for host in places)
        arriving: dict[int, list[Affine]] = {host: [] for host in wanted}
        for start, place in source.items():
            passed = self._ways(net, start, place, [host for host in wanted if host != start])
            for host in wanted:
                if host in passed:
                    arriving[host].append(passed[host])
        for host in wanted:
            needs = [places[host] for places in readers if host in places]
            for need in dict.fromkeys(needs):
                if source.get(host) == ONE:
                    continue
                row = Sum()
                row.add(source.get(host, ZERO))
                for arrival in arriving[host]:
                    row.add(arrival)
                row.add(need, -1.0)
                self.linear.at_least(row.expression())

    def _ways(self, net: Net, start: int, place: Affine, wanted: list[int]) -> dict[int, Affine]:
        """For each host on the ways, 1 when the tensor arrives there from `start`."""
        before = self._before[start]
        on_way: dict[int, None] = {}
        for host in wanted:
            way = []
            while host != start and host not in on_way:
                way.append(host)
                host = before[host]
            on_way.update(dict.fromkeys(reversed(way)))
        passed: dict[int, Affine] = {}
        for host in on_way:
            total = Sum()
            for flow in self.open_flows(net, before[host], host):
                total.add(flow)
            passed[host] = total.expression()
            upstream = place if before[host] == start else passed[before[host]]
            # What arrives came from the host before, and at first from where the tensor arose.
            row = upstream.minus(passed[host])
            if row.terms or row.constant < 0:
                self.linear.at_least(row)
        return passed
