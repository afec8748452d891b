"""partc: a compiler that places neural networks on a device and the servers near it."""
