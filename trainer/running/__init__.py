"""Runs: their folders and checkpoints, how one starts, resumes and is opened again."""
