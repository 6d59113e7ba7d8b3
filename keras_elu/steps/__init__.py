"""One step of a model, as mathematics that is the same on any number of replicas."""
