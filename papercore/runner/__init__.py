"""Floor `runner`: executes notebooks and turns finished runs into results. Only this floor imports papermill.

keys: what a run depends on | jobs: what is to be run | kernel, execute: one run | batch: several | promote, bake,
report: what becomes of a finished run | new: a demo room. Imports `study` and `assets`, never a room.
"""
