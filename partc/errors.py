"""Every error partc raises on purpose.

PartcError                      exit code 1
├── UsageError                  exit code 2: the command line or a call was wrong
├── ModelError                  the ONNX input cannot be used
│   └── UnsupportedOpError      no backend of the topology knows an op
├── TopologyError               the topology file cannot be used
├── PassError                   a pass could not do its work
│   └── ContractError           a pass broke what it requires or ensures: a defect of the pass
├── TargetError                 a backend failed
│   ├── MissingBackendError     a backend is not installed, or lacks its hardware
│   ├── UnbuildableError        a builder refuses a segment, and would again
│   └── UnknownTargetError      exit code 2: no target has that name
├── OptimizerError              the solvers disagree, or a plan does not evaluate to its objective
│   └── InfeasibleError         no placement satisfies the constraints (two solvers agree)
├── VerificationError           the partitioned program differs from the whole model
├── BundleError                 a bundle cannot be read or written
│   └── IntegrityError          a file of a bundle is not what the manifest says
└── RequestError                a request to a running host is malformed
    └── HostUnreachableError    a host did not answer in time

Each message is one sentence or two that say what is wrong, where, and what to do.
"""

from __future__ import annotations


class PartcError(Exception):
    """Base of all errors that a user is meant to read.

    Attributes:
        pass_name, op, host: where it happened, when that is known.
        exit_code: what the command line ends with.
    """

    exit_code = 1

    def __init__(
        self,
        message: str,
        *,
        pass_name: str | None = None,
        op: str | None = None,
        host: str | None = None,
    ) -> None:
        super().__init__(message)
        self.pass_name = pass_name
        self.op = op
        self.host = host

    @property
    def message(self) -> str:
        """The sentence for the user."""
        return str(self)


class UsageError(PartcError):
    """The command line or a call was wrong."""

    exit_code = 2


class ModelError(PartcError):
    """The ONNX input cannot be used."""


class UnsupportedOpError(ModelError):
    """No backend of the topology knows an op."""


class TopologyError(PartcError):
    """The topology cannot be used."""


class PassError(PartcError):
    """A pass could not do its work."""


class ContractError(PassError):
    """A pass broke what it requires or ensures."""


class TargetError(PartcError):
    """A backend failed."""


class MissingBackendError(TargetError):
    """A backend is not installed, or its hardware is not there."""


class UnbuildableError(TargetError):
    """A builder refuses a segment: it is the segment's fault, and not that of the machine."""


class UnknownTargetError(TargetError):
    """No target has the name that was given."""

    exit_code = 2


class OptimizerError(PartcError):
    """Solvers disagree, or a plan does not evaluate to its objective."""


class InfeasibleError(OptimizerError):
    """No placement satisfies the constraints."""


class VerificationError(PartcError):
    """The partitioned program differs from the whole model."""


class BundleError(PartcError):
    """A bundle cannot be read or written."""


class IntegrityError(BundleError):
    """A file of a bundle is not what the manifest says."""


class RequestError(PartcError):
    """A request to a running host is malformed."""


class HostUnreachableError(RequestError):
    """A host did not answer in time."""
