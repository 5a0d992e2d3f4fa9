"""Banks score real small businesses on data that stays encrypted."""
