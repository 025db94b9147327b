"""The quiet room: values in, values out. No file, socket, clock or log is ever opened here."""
