"""Next best actions by offline reinforcement learning.

The flow, and the module that holds each step: pull (`pull`) → validate (`validate`) → transitions (`transitions`)
→ learn (`train`) → gate (`gate`) → review (`review`) → publish (`score`, `publish`).
"""
