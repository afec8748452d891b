"""What the integer programs of hosts with links have in common: flows over link directions."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import numpy.typing as npt

from partc.optimizer.instance import CodecOption, Net
from partc.optimizer.linear import ONE, ZERO, Affine
from partc.optimizer.placement_model import Flow, PlacementModel
from partc.optimizer.problem import NO_CODEC
from partc.optimizer.routes import Routes


class LinkModel(PlacementModel):
    """A tensor crosses a link direction in one of its codecs."""

    routes: Routes

    def open_flows(
        self, net: Net, sender: int, receiver: int, *, certain: bool = False
    ) -> list[Affine]:
        """A variable for each codec that the tensor may cross in; `certain` when it must cross."""
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
        if certain and len(options) == 1:
            flows = [ONE]
        else:
            several = len(options) > 1
            flows = [
                self.linear.variable("f", integer=several)
                if self.affordable(sender, receiver, seconds[option.name], option)
                else ZERO
                for option in options
            ]
        for option, flow in zip(options, flows, strict=True):
            self._record(net, option, flow, seconds[option.name], sender, receiver)
        return flows

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
