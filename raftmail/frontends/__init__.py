"""The protocols that clients speak, a room each. They use the service and the network, and know
nothing of each other."""
