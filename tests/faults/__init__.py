"""What can fail, case by case: each test is named by a letter and a number.

A: the user's function. B: processes. C: nodes, tasks, time limits, preemption. D: Slurm's
controller and accounting. E: file systems. F: the session. G: arguments. H: size. I: the
environment. J: sessions at the same time. K: security. L: no Slurm. The page
docs/what-can-fail.md names them by these.
"""
