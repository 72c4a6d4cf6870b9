"""Clinical measurements of ECG, under the name that users import; they are made in `shared.measurements`."""

from shared.measurements.catalog import FEATURES, VALUES, Feature, check_names
from shared.measurements.features import FeatureSet, extract_features

__all__ = ["FEATURES", "VALUES", "Feature", "FeatureSet", "check_names", "extract_features"]
