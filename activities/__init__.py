"""The steps of the life cycle, one class a stage, each with its dependencies injected."""
