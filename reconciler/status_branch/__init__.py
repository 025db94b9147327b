"""The status branch: which file holds what, how it is read back, and how a pass is recorded on it.

Nothing is decided here; what is written is the fold of events and what can be rendered from it.
"""
