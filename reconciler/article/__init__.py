"""The files of the tutorial's fleet, laid out as a fleet repository; the demo commits them step by step."""
