"""The program, its costs, the topology and the plan: plain typed data."""
