"""The language of a workflow: what its YAML file may say and what that means. Pure."""
