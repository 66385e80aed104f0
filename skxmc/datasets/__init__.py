"""Data sets: tables of users, published file layouts, an embedded example, synthetic data."""

from skxmc.datasets._icd10cm import load_icd10cm
from skxmc.datasets._synthetic import make_xmc
from skxmc.datasets._table import load_table
from skxmc.datasets._xmc import load_xmc

__all__ = ["load_icd10cm", "load_table", "load_xmc", "make_xmc"]
