/* One pass of CVB0 over all listed words, each seeing the counts of the shares given. Chains are threads' work. */
#undef TINY
#define TINY (sizeof(REAL) == 4 ? 1e-18 : 1e-150)
typedef struct {
  const REAL *shares, *alpha, *b, *counts; /* [C, cell, K], [C, K], [C], [cell] */
  const long *starts, *columns;            /* [D + 1], [cell] */
  REAL *new_shares, *documents, *words;    /* [C, cell, K]; expected tokens by topic, [C, D, K], [C, V, K] */
  REAL *objective, *moved, *scratch;       /* [C], [C], [C, 6 K] */
  long C, D, V, K;
} NAME(cvb0_given);

static void NAME(cvb0_chain)(zoo_work *work, long chain, long thread) {
  const NAME(cvb0_given) *g = work->given;
  const long K = g->K, cells = g->starts[g->D];
  const REAL *shares = g->shares + chain * cells * K, *alpha = g->alpha + chain * K, b = g->b[chain];
  REAL *documents = g->documents + chain * g->D * K, *words = g->words + chain * g->V * K;
  REAL *total = g->scratch + chain * 6 * K, *scale = total + K, *weight = scale + K, *mine = weight + K;
  REAL *theta = mine + K, sum_alpha = 0;
  double objective = 0, moved = 0;
  (void)thread;
  memset(documents, 0, g->D * K * sizeof(REAL));
  memset(words, 0, g->V * K * sizeof(REAL));
  for (long k = 0; k < K; k++) total[k] = g->V * b, sum_alpha += alpha[k];
  for (long d = 0; d < g->D; d++) {
    REAL *restrict of_d = documents + d * K;
    for (long e = g->starts[d]; e < g->starts[d + 1]; e++) {
      REAL *restrict of_v = words + g->columns[e] * K;
      const REAL *restrict own = shares + e * K, n = g->counts[e];
#pragma omp simd
      for (long k = 0; k < K; k++) {
        const REAL tokens = n * own[k];
        of_d[k] += tokens;
        of_v[k] += tokens;
      }
    }
#pragma omp simd
    for (long k = 0; k < K; k++) total[k] += of_d[k];
  }
  for (long k = 0; k < K; k++) scale[k] = 1 / total[k];
  for (long d = 0; d < g->D; d++) {
    REAL length = sum_alpha;
    for (long k = 0; k < K; k++) length += documents[d * K + k];
    for (long k = 0; k < K; k++) {
      mine[k] = documents[d * K + k] + alpha[k];
      theta[k] = mine[k] / length * scale[k];
    }
    for (long e = g->starts[d]; e < g->starts[d + 1]; e++) {
      const REAL *restrict of_v = words + g->columns[e] * K, *restrict own = shares + e * K;
      REAL *restrict new = g->new_shares + chain * cells * K + e * K;
      REAL sum = 0, at_means = 0, away = 0;
#pragma omp simd reduction(+ : sum, at_means)
      for (long k = 0; k < K; k++) {
        const REAL near = of_v[k] + b, left = mine[k] - own[k], right = near - own[k], below = total[k] - own[k];
        const REAL w = MAX(left, (REAL)TINY) * MAX(right, (REAL)TINY) / MAX(below, (REAL)TINY);
        at_means += theta[k] * near;
        weight[k] = w;
        sum += w;
      }
      const REAL each = 1 / MAX(sum, (REAL)TINY);
#pragma omp simd reduction(+ : away)
      for (long k = 0; k < K; k++) {
        const REAL found = weight[k] * each;
        away += found > own[k] ? found - own[k] : own[k] - found;
        new[k] = found;
      }
      moved += g->counts[e] * (double)away;
      objective += g->counts[e] * log(MAX(at_means, (REAL)TINY));
    }
  }
  g->objective[chain] = objective;
  g->moved[chain] = moved;
}

/* New shares of topics in a token of each word; expected tokens of documents and of words at the shares given, and the sum
   of n log(E theta . E beta); how far tokens move. */
void NAME(cvb0)(const REAL *shares, const REAL *alpha, const REAL *b, const REAL *counts, const long *starts,
                const long *columns, REAL *new_shares, REAL *documents, REAL *words, REAL *objective, REAL *moved,
                REAL *scratch, long C, long D, long V, long K, long threads) {
  NAME(cvb0_given) g = {shares, alpha, b, counts, starts, columns, new_shares, documents, words, objective, moved,
                        scratch, C, D, V, K};
  zoo_run(NAME(cvb0_chain), &g, C, threads);
}
