"""The mathematics of one step of a model, which is the same on any number of replicas."""
