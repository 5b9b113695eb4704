"""The checker of annotations in tests: beartype, with whole numbers allowed where floats are."""

from beartype import BeartypeConf, beartype

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
