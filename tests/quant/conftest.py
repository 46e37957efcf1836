"""The first call of a kernel may compile it, so one example's time says nothing about the law under test."""

from hypothesis import settings

settings.register_profile("quant", deadline=None)
settings.load_profile("quant")
