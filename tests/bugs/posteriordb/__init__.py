"""Models of posteriordb as programs, written from what they are in mathematics.

Their data are not here: but for the eight schools and the rates, they are drawn at random in the right shape. Families
do not depend on them. Where Stan sums a discrete variable out, both are here: ``_summed`` is what Stan has.
"""
