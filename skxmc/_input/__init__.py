"""What users pass becomes a list of str and a CSR indicator, or an error that helps."""
