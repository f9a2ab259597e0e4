"""From a model file, a rule and settings to one definition."""
