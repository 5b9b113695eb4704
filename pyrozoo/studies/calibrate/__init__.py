"""Are a method's intervals calibrated?"""
