"""Measurements of the engine and the portal: to be run by hand, each prints what it found."""
