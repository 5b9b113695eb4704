"""What everything stands on: errors, settings, draws, predictions, pictures, paths. Imports nothing of the project."""
