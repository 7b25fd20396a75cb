"""Closed forms: what every operator of a model asks for, as exact piecewise polynomials in batch and lengths.

``make`` fits them to traces (needs torch); ``terms``, ``store`` and ``evaluate`` need numpy and the standard library only, so a
stored form answers without the model's code: one point in well under a millisecond, a million points in about a second.
"""
