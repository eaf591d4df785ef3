"""Ranges of the generator with nothing left to chance."""

from bundle.synthesis.options import SynthesisOptions

STILL = {
    **{name: 0.0 for name, value in vars(SynthesisOptions()).items() if isinstance(value, float)},
    "elastic_spacing": 40.0,
    "fine_elastic_spacing": 15.0,
    "swellings": 0,
    "plane_spacing": (0.0, 0.0),
    "clip_share": (0.005, 0.005),
}
