"""Campaigns of faults: commands that are killed, whose disk is full, whose server goes wrong."""
