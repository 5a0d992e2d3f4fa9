"""The keyholder: the only process of an organisation that holds its share of the joint key."""
