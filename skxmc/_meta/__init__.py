"""Code that meta-estimators share."""
