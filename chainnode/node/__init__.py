"""The process: composition of the cores, the consensus driver, configuration and lifecycle."""
