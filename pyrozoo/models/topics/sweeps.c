/* The topic of each token: given theta and beta, then by collapsed Gibbs sweeps, given those of all others with theta and
   beta summed out (Griffiths and Steyvers 2004). Counts are kept as floats, which hold whole numbers up to 2^24. Topics lie lane by lane: cumulative weights grow
   down each lane, so that a lane is drawn first, then a topic in it, without a sum across lanes for each topic. */
#define LANES 16
typedef float NAME(lanes) __attribute__((vector_size(64), aligned(4), may_alias));
#define VECTOR NAME(lanes)

static inline unsigned long NAME(next)(unsigned long *s) { /* xoshiro256++ (Blackman and Vigna 2021) */
  const unsigned long sum = s[0] + s[3], result = ((sum << 23) | (sum >> 41)) + s[0], t = s[1] << 17;
  s[2] ^= s[0]; s[3] ^= s[1]; s[1] ^= s[2]; s[0] ^= s[3]; s[2] ^= t;
  s[3] = (s[3] << 45) | (s[3] >> 19);
  return result;
}

/* Draw a topic: sums [W] are cumulative weights down each lane, the last of them is sum. */
static inline __attribute__((always_inline)) long NAME(choose)(
    unsigned long *state, const float *sums, VECTOR sum, long vectors, long K) {
  float across[LANES], total = 0;
  for (long l = 0; l < LANES; l++) across[l] = total += sum[l];
  float at = (NAME(next)(state) >> 40) * 0x1p-24f * total;
  long lane = 0, v = 0;
  for (long l = 0; l < LANES - 1; l++) lane += across[l] <= at;
  while (lane && sum[lane] <= 0) lane--; /* rounding */
  at -= lane ? across[lane - 1] : 0;
  for (long j = 0; j < vectors - 1; j++) v += sums[j * LANES + lane] <= at;
  while (v && sums[v * LANES + lane] == sums[(v - 1) * LANES + lane]) v--; /* one that weighs nothing */
  const long chosen = v * LANES + lane;
  return chosen < K ? chosen : K - 1;
}

typedef struct {
  const REAL *alpha;                  /* [K] */
  const long *starts, *columns, *times; /* [D + 1], [cell], tokens of each cell */
  const long *seeds;                  /* [C, 4] */
  int *topics;                        /* [C, token] */
  float *of_words, *of_documents, *scratch; /* [C, V, W], [C, D, W]: first beta and theta; [C, 4 W] */
  long C, D, V, K, W, T, sweeps;
  double b;
} NAME(sweeps_given);

static void NAME(sweeps_chain)(zoo_work *work, long chain, long thread) {
  const NAME(sweeps_given) *g = work->given;
  const long K = g->K, W = g->W, vectors = W / LANES;
  int *topics = g->topics + chain * g->T;
  float *of_words = g->of_words + chain * g->V * W, *of_documents = g->of_documents + chain * g->D * W;
  float *totals = g->scratch + chain * 4 * W, *inverse = totals + W, *alpha = inverse + W, *sums = alpha + W;
  const float b = g->b, Vb = g->V * g->b;
  unsigned long state[4];
  (void)thread;
  memcpy(state, g->seeds + chain * 4, sizeof(state));
  long token = 0;
  for (long d = 0; d < g->D; d++) /* the first topics: given theta and beta, which lie where the counts will */
    for (long e = g->starts[d]; e < g->starts[d + 1]; e++) {
      const VECTOR *theta = (const VECTOR *)(of_documents + d * W), *beta = (const VECTOR *)(of_words + g->columns[e] * W);
      VECTOR sum = {0};
      for (long v = 0; v < vectors; v++) ((VECTOR *)sums)[v] = sum += theta[v] * beta[v];
      for (long i = 0; i < g->times[e]; i++, token++) topics[token] = NAME(choose)(state, sums, sum, vectors, K);
    }
  memset(of_words, 0, g->V * W * sizeof(float));
  memset(of_documents, 0, g->D * W * sizeof(float));
  memset(totals, 0, 3 * W * sizeof(float));
  token = 0;
  for (long d = 0; d < g->D; d++)
    for (long e = g->starts[d]; e < g->starts[d + 1]; e++)
      for (long i = 0; i < g->times[e]; i++, token++) {
        of_words[g->columns[e] * W + topics[token]]++;
        of_documents[d * W + topics[token]]++;
        totals[topics[token]]++;
      }
  for (long k = 0; k < K; k++) alpha[k] = g->alpha[k], inverse[k] = 1 / (totals[k] + Vb); /* 0 behind the last topic */
  for (long sweep = 0; sweep < g->sweeps; sweep++) {
    token = 0;
    for (long d = 0; d < g->D; d++) {
      float *mine = of_documents + d * W;
      for (long k = 0; k < K; k++) mine[k] += alpha[k];
      for (long e = g->starts[d]; e < g->starts[d + 1]; e++) {
        float *word = of_words + g->columns[e] * W;
        if (e + 2 < g->starts[d + 1])
          for (long k = 0; k < W; k += LANES) __builtin_prefetch(of_words + g->columns[e + 2] * W + k);
        for (long i = 0; i < g->times[e]; i++, token++) {
          const long old = topics[token];
          mine[old]--, word[old]--, totals[old]--;
          inverse[old] = 1 / (totals[old] + Vb);
          VECTOR sum = {0};
          for (long v = 0; v < vectors; v++) {
            sum += ((VECTOR *)mine)[v] * (((VECTOR *)word)[v] + b) * ((VECTOR *)inverse)[v];
            ((VECTOR *)sums)[v] = sum;
          }
          const long new = NAME(choose)(state, sums, sum, vectors, K);
          topics[token] = new;
          mine[new]++, word[new]++, totals[new]++;
          inverse[new] = 1 / (totals[new] + Vb);
        }
      }
      for (long k = 0; k < K; k++) mine[k] = (float)(long)(mine[k] - alpha[k] + 0.5f);
    }
  }
}

/* Topics given theta and beta, then so many sweeps of each chain; and the counts that they come to. */
void NAME(sweeps)(const REAL *alpha, const long *starts, const long *columns, const long *times, const long *seeds,
                  int *topics, float *of_words, float *of_documents, float *scratch, long C, long D, long V, long K,
                  long W, long T, long sweeps, double b, long threads) {
  NAME(sweeps_given) g = {alpha, starts, columns, times, seeds, topics, of_words, of_documents, scratch, C, D, V, K, W,
                          T, sweeps, b};
  zoo_run(NAME(sweeps_chain), &g, C, threads);
}
