"""The command line: each verb is a thin face of what Python can do, and loads what it needs."""
