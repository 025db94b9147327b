"""Bytes ↔ values: text (`yaml`), shapes (`schema`), whole files (`parse`). Nothing here knows Git or a cluster."""
