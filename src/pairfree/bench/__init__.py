"""The papers' tables, measured: one file an experiment."""
