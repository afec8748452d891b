"""TensorRT engines for Jetsons and GPU servers."""
