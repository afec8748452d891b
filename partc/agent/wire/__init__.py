"""The agent's own service over gRPC, beside the Open Inference Protocol at the same address."""
