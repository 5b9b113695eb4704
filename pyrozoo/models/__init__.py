"""One folder per model: model.py, guide.py, a file per solver, queries.py, figures.py."""
