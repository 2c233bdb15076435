"""The doctor: what works here and on the nodes, and what to do about what does not."""
