"""Spillover: what everyone owes on-chain as one balance sheet, and what breaks next."""

__version__ = "0.1.0"
