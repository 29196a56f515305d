"""What a network costs to run: latency, throughput, start-up and memory, of what was proved to compute the network."""
