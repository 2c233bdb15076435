"""The batch systems: how a run's tasks are started, asked after and cancelled."""
