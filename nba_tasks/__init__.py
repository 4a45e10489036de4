"""Next best actions by offline reinforcement learning.

The flow, and the module that holds each step: pull (`pull`) → validate (`validate`) → transitions (`transitions`)
→ learn (`train`) → gate (`gate`) → review (`review`) → publish (`score`, `publish`).
"""

import os

# Idle OpenMP threads would spin for work that a busy machine cannot give them: tasks run beside one another.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
