"""What KubeFleet did, recorded, and what we do with the same inputs.

`scenario` reads a recording, `replay` does what it says in the simulated world, `compare` turns the objects of both
sides into comparable facts, `differences` is the one table of what differs on purpose.
"""
