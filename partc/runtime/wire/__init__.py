"""The Open Inference Protocol over gRPC. Only these modules import grpc and tritonclient."""
