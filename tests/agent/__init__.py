"""The agent: real processes over real sockets."""
