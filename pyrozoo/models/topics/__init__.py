"""Topic models: documents as mixtures of topics, which are distributions over words (LDA; with correlations, CTM)."""

DATA = "simulated_documents"
CELLS = "counts"
