"""The shell around the core: derive the repository, make a pass, keep the service running."""
