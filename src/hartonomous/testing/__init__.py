"""Conformance suites, the dictionary model and strategies, for our tests and for yours."""
