"""Lets the tests of this folder, and those of the folders below, import its modules."""
