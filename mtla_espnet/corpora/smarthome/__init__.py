"""Smarthome: synthetic commands."""
