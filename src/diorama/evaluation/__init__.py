"""Evaluation: grades anyone's video. Clips and callables come in, tables and JSON go out; it knows no model but the judge."""
