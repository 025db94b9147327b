"""Staged rollouts over fleets of Kubernetes clusters, driven by a Git repository.

main    ── fetch ───► bytes ── parse ───► documents + problems
        ── history ─► commits ─ derive ─► identities, snapshots, initializations
                                             │
  members ── outcomes ─► absorb (pure) ──────┤  events
                                             ▼
status  ── read ─► placement states ─────► plan (pure, now)
                                             │  events + actions + what is waited for
status  ◄── record: one commit ──────────────┤
                                             ▼
  members ◄── workers: deliver · observe · withdraw
"""
