"""Git as bytes: start git, mirror two branches, read history, publish commits. No file's meaning is known here."""
