"""The Open Inference Protocol over gRPC. Only these modules import grpc and tritonclient."""

import os

# Whatever fails is raised or said in a sentence; gRPC's own log would tell it again, in its terms.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
