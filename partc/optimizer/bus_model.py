"""The integer program for hosts on one shared bus."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from partc.optimizer.instance import CodecOption, Net
from partc.optimizer.linear import ZERO, Affine, Sum
from partc.optimizer.placement_model import Flow, PlacementModel


class BusModel(PlacementModel):
    """A tensor is put on the bus once when read elsewhere, and taken once per reading host."""

    def prepare(self) -> None:
        """The monotone rule: hosts are in the order in which the problem lists them."""
        self._codec_of: dict[tuple[str, str], Affine] = {}
        if not self.problem.constraints.monotone:
            return
        for net in self.instance.nets:
            if net.source_unit is None:
                continue
            for reader in net.reader_units:
                for first in self.hosts[1:]:
                    step = self._from(first, reader).minus(self._from(first, net.source_unit))
                    if step.terms or step.constant < 0:
                        self.linear.at_least(step)

    def _from(self, first: int, unit: int) -> Affine:
        total = Sum()
        for host, place in self.at[unit].items():
            if host >= first:
                total.add(place)
        return Affine(tuple(total.terms.items()), total.constant)

    def add_net(self, net: Net) -> None:
        """Puts, takes, and one codec for the tensor."""
        source = self.source_places(net)
        readers = self.reader_places(net)
        options = self.instance.codec_options(net.tensor)
        alike = not any(host.codec_factors for host in self.problem.hosts)
        if len(options) > 1 and alike and not self.weighs_codecs():
            options = self._undominated(options)
        puts = {
            host: [place.minus(r.get(host, ZERO)) for r in readers]
            for host, place in source.items()
        }
        takes = {
            host: [place.minus(source.get(host, ZERO)) for r in readers if (place := r.get(host))]
            for host in self.hosts
        }
        put_flows = {
            host: self._flows(net, host, needs, options, sending=True)
            for host, needs in puts.items()
        }
        take_flows = {
            host: self._flows(net, host, needs, options, sending=False)
            for host, needs in takes.items()
        }
        if len(options) > 1:
            self._agree_on_codec(put_flows, take_flows, len(options))
        for host, flows in put_flows.items():
            self._record(net, options, flows, host, sending=True)
        for host, flows in take_flows.items():
            self._record(net, options, flows, host, sending=False)
            self.arrivals.setdefault((net.tensor, host), []).extend(flows)

    def _undominated(self, options: list[CodecOption]) -> list[CodecOption]:
        """Drop what is no better in bytes, encoding and decoding alike."""
        kept: list[CodecOption] = []
        for option in sorted(options, key=lambda o: (o.sent_bytes, o.encode_s, o.decode_s)):
            if not any(
                other.sent_bytes <= option.sent_bytes
                and other.encode_s <= option.encode_s
                and other.decode_s <= option.decode_s
                for other in kept
            ):
                kept.append(option)
        return kept

    def _flows(
        self,
        net: Net,
        host: int,
        needs: list[Affine],
        options: list[CodecOption],
        *,
        sending: bool,
    ) -> list[Affine]:
        needs = list(dict.fromkeys(need for need in needs if need.terms or need.constant > 0))
        if not needs:
            return []
        flows = [
            self.linear.variable("f", integer=len(options) > 1)
            if self._can_pay(net, option, host, sending=sending)
            else ZERO
            for option in options
        ]
        for need in needs:
            row = Sum()
            for flow in flows:
                row.add(flow)
            row.add(need, -1.0)
            self.linear.at_least(Affine(tuple(row.terms.items()), row.constant))
        return flows

    def _can_pay(self, net: Net, option: CodecOption, host: int, *, sending: bool) -> bool:
        own = self._own(option, host, sending=sending)
        sender, receiver = (host, None) if sending else (None, host)
        wire_s = self._wire_s(net, option, host, sending=sending)
        return self.affordable(sender, receiver, wire_s, own)

    def _own(self, option: CodecOption, host: int, *, sending: bool) -> CodecOption:
        """What one end does; a tensor's loss counts once, where it is put on the bus."""
        data = self.problem.hosts[host]
        return replace(
            option,
            loss=option.loss if sending else 0.0,
            encode_s=option.encode_s * data.encoding_factor(option.name) if sending else 0.0,
            decode_s=0.0 if sending else option.decode_s * data.decoding_factor(option.name),
        )

    def _wire_s(self, net: Net, option: CodecOption, host: int, *, sending: bool) -> float:
        data = self.problem.hosts[host]
        assert data.bus_seconds_per_byte is not None
        shares = self.problem.tensor_by_name[net.tensor].shares_message
        fixed_s = 0.0 if shares else data.bus_latency_s
        if not sending:
            fixed_s = self.instance.fixed_s(net.tensor, host, data.bus_latency_s)
        return option.sent_bytes * data.bus_seconds_per_byte + fixed_s

    def _agree_on_codec(
        self, puts: dict[int, list[Affine]], takes: dict[int, list[Affine]], options: int
    ) -> None:
        """At most one codec is put on the bus, and only what was put can be taken."""
        everything = Sum()
        for flows in puts.values():
            for flow in flows:
                everything.add(flow, -1.0)
        self.linear.at_least(Affine(tuple(everything.terms.items()), 1.0))
        for flows in takes.values():
            if not flows:
                continue
            for option in range(options):
                row = Sum()
                row.add(flows[option], -1.0)
                for put in puts.values():
                    if put:
                        row.add(put[option])
                self.linear.at_least(Affine(tuple(row.terms.items())))

    def _record(
        self,
        net: Net,
        options: list[CodecOption],
        flows: list[Affine],
        host: int,
        *,
        sending: bool,
    ) -> None:
        for option, flow in zip(options, flows, strict=False):
            own = self._own(option, host, sending=sending)
            self.flows.append(
                Flow(
                    used=flow,
                    tensor=net.tensor,
                    codec=option.name,
                    loss=own.loss,
                    wire_s=self._wire_s(net, option, host, sending=sending),
                    encode_s=own.encode_s,
                    decode_s=own.decode_s,
                    sender=host if sending else None,
                    receiver=None if sending else host,
                    load=None,
                )
            )

    def chosen_codecs(self, values: npt.NDArray[np.float64]) -> dict[tuple[str, str, str], str]:
        """The codec that each tensor is put on the bus with, for every pair of hosts."""
        value = self.value_reader(values)
        best: dict[str, tuple[float, str]] = {}
        for flow in self.flows:
            if flow.sender is None:
                continue
            amount = value(flow.used)
            if amount > best.get(flow.tensor, (1e-9, ""))[0]:
                best[flow.tensor] = (amount, flow.codec)
        names = self.problem.host_names
        return {
            (tensor, a, b): codec
            for tensor, (_, codec) in best.items()
            for a in names
            for b in names
            if a != b
        }
