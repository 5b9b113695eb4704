"""Hidden Markov model: sequences whose steps come from states that follow each other, with holes and gaps."""

DATA = "simulated_sequences"
