"""What goes out over the network: key sets, upstream connections, exchanges and tunnels."""
