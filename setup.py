"""Everything is in setup.cfg; this file lets older tools install."""
from setuptools import setup

setup()
