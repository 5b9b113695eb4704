"""The laws of models and methods, as functions that anybody can call on a model of their own."""
