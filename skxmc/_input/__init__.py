"""Input of users, turned into a list of str and a CSR indicator, or refused with a remedy."""
