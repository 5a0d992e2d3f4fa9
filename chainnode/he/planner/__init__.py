"""The planner's rules, one per file, in the order `chainnode.he.sql` applies them."""
