"""What runs on the nodes: standard library only, the session's modules are out of reach."""
