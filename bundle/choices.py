"""What programs and configs may choose from. Nothing is imported here, so that ``--help`` is there at once."""

ENGINES = ("auto", "torch", "torchscript", "onnxruntime", "openvino")
PRECISIONS = ("float32", "bfloat16", "auto")
FORMS = ("torchscript", "openvino", "program", "onnx", "aotinductor")
ON_ERROR = ("skip", "raise")
FAMILIES = ("bundle", "monai", "generative", "timm")
LAYOUTS = ("combined", "separate")
LABEL_VALUES = ("channels", "codes")
DEFAULT_BIDS_SUFFIX = "T1w"
BIDS_SUFFIXES = (DEFAULT_BIDS_SUFFIX, "T2w", "FLAIR", "PDw", "T2starw", "inplaneT1", "inplaneT2", "UNIT1")
"""Of images that a model of any contrast segments; those that BIDS has besides are maps, angiographies or several."""
