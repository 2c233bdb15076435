"""A job's report: one self-contained HTML page, that asks nothing of any network."""
