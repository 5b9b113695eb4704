/* Tokens shared among topics. "documents" brings q(theta) of each document nearer to its optimum: theta = exp E log theta,
   s = theta . beta of each listed word, gamma = alpha + theta * sum (n / s) beta, so many times. "words" adds up what
   documents say of each word. Rows of topics are padded with zeros to whole vectors, W numbers. */
#define CHUNK 64
#define BLOCK 32

/* exp psi(x), and psi(x) and log Gamma(x) unless there is no place for them, of x > 0: eight steps up, then the series
   of digamma and log Gamma (see special.c). */
static inline __attribute__((always_inline)) void NAME(gammas)(
    const REAL *x, REAL *e, REAL *psi, REAL *log_gamma, long n) {
#pragma omp simd
  for (long i = 0; i < n; i++) {
    const REAL low = x[i] < 8 ? x[i] : 1, t = low * (low + 7);
    const REAL product = t * (t + 6) * (t + 10) * (t + 12);
    const REAL slope = (2 * low + 7) * (((4 * t + 84) * t + 504) * t + 720) / product;
    const REAL z = x[i] < 8 ? x[i] + 8 : x[i], r = 1 / z, s = r * r;
    const REAL below = (REAL)0.5 * r + s * ((REAL)(1.0 / 12) - s * ((REAL)(1.0 / 120) - s * ((REAL)(1.0 / 252) -
        s * ((REAL)(1.0 / 240) - s * ((REAL)(1.0 / 132) - s * (REAL)(691.0 / 32760)))))) + (x[i] < 8 ? slope : 0);
    e[i] = z * EXP(-below);
    if (psi) {
      const REAL log_z = LOG(z);
      psi[i] = log_z - below;
      log_gamma[i] = (z - (REAL)0.5) * (log_z - 1) + (REAL)0.41893853320467274178 + r * ((REAL)(1.0 / 12) - s *
          ((REAL)(1.0 / 360) - s * ((REAL)(1.0 / 1260) - s * ((REAL)(1.0 / 1680) - s * (REAL)(1.0 / 1188))))) -
          (x[i] < 8 ? LOG(product) : 0);
    }
  }
}

typedef struct {
  const REAL *gamma, *beta, *alpha, *counts; /* [D, K], [V, W], [K], [cell] */
  const long *starts, *columns;              /* [D + 1], [cell] */
  REAL *new_gamma, *theta, *ratio;           /* [D, K], [D, W], [cell] */
  REAL *bound, *lowest, *change, *logs;      /* [D] of the gamma given, [D], [D], [block, K] or none */
  REAL *scratch;                             /* [thread, 5 W + CHUNK] */
  long D, K, W, steps;
  double tol;
} NAME(documents_given);

/* s of the words of a document and its ratios; the sum of n log s, and the least s. */
static inline __attribute__((always_inline)) void NAME(pass)(
    const NAME(documents_given) *g, long from, long to, const REAL *theta, REAL *sums, REAL *s, double *evidence,
    REAL *lowest) {
  const long W = g->W;
  memset(sums, 0, W * sizeof(REAL));
  for (long start = from; start < to; start += CHUNK) {
    const long cells = MIN(CHUNK, to - start);
    for (long j = 0; j < cells; j++) {
      const REAL *restrict b = g->beta + g->columns[start + j] * W;
      REAL dot = 0;
      if (start + j + 6 < to) __builtin_prefetch(g->beta + g->columns[start + j + 6] * W);
#pragma omp simd reduction(+ : dot)
      for (long k = 0; k < W; k++) dot += theta[k] * b[k];
      s[j] = dot;
    }
    REAL low = *lowest;
    if (evidence) {
      REAL sum = 0;
#pragma omp simd reduction(+ : sum) reduction(min : low)
      for (long j = 0; j < cells; j++) {
        sum += g->counts[start + j] * LOG(s[j]);
        low = MIN(low, s[j]);
      }
      *evidence += sum;
    } else {
      for (long j = 0; j < cells; j++) low = MIN(low, s[j]);
    }
    *lowest = low;
    for (long j = 0; j < cells; j++) g->ratio[start + j] = s[j] = g->counts[start + j] / s[j];
    long j = 0;
    for (; j + 4 <= cells; j += 4) {
      const long *c = g->columns + start + j;
      const REAL *restrict b0 = g->beta + c[0] * W, *restrict b1 = g->beta + c[1] * W;
      const REAL *restrict b2 = g->beta + c[2] * W, *restrict b3 = g->beta + c[3] * W;
      const REAL r0 = s[j], r1 = s[j + 1], r2 = s[j + 2], r3 = s[j + 3];
#pragma omp simd
      for (long k = 0; k < W; k++) sums[k] += (r0 * b0[k] + r1 * b1[k]) + (r2 * b2[k] + r3 * b3[k]);
    }
    for (; j < cells; j++) {
      const REAL *restrict b = g->beta + g->columns[start + j] * W;
      const REAL r = s[j];
#pragma omp simd
      for (long k = 0; k < W; k++) sums[k] += r * b[k];
    }
  }
}

static void NAME(documents_block)(zoo_work *work, long block, long thread) {
  const NAME(documents_given) *g = work->given;
  const long K = g->K, W = g->W, last = MIN(g->D, (block + 1) * BLOCK);
  REAL *sums = g->scratch + thread * (5 * W + CHUNK), *gamma = sums + W, *psi = gamma + W, *log_gamma = psi + W;
  REAL *spare = log_gamma + W, *s = spare + W;
  if (g->logs) memset(g->logs + block * K, 0, K * sizeof(REAL));
  for (long d = block * BLOCK; d < last; d++) {
    const long from = g->starts[d], to = g->starts[d + 1];
    REAL *theta = g->theta + d * W, low = INFINITY, total = 0, of_total[3];
    double evidence = 0, change = 0, gap = 0, given = 0;
    for (long k = 0; k < K; k++) gamma[k] = g->gamma[d * K + k], total += gamma[k];
    for (long k = K; k < W; k++) theta[k] = 0;
    NAME(gammas)(&total, of_total, of_total + 1, of_total + 2, 1);
    for (long step = 0; step < g->steps; step++) {
      if (step) NAME(gammas)(gamma, theta, 0, 0, K); else NAME(gammas)(gamma, theta, psi, log_gamma, K);
      if (!step)
        for (long k = 0; k < K; k++) {
          gap += (gamma[k] - g->alpha[k]) * (psi[k] - of_total[1]) - log_gamma[k];
        }
      NAME(pass)(g, from, to, theta, sums, s, step ? 0 : &evidence, &low);
      change = 0;
      for (long k = 0; k < K; k++) {
        const REAL new = g->alpha[k] + theta[k] * sums[k];
        change += new > gamma[k] ? new - gamma[k] : gamma[k] - new;
        gamma[k] = new;
      }
      if (change <= g->tol * K) break;
    }
    for (long k = 0; k < K; k++) g->new_gamma[d * K + k] = gamma[k];
    for (long e = from; e < to; e++) given += g->counts[e];
    g->bound[d] = evidence - given * of_total[1] - gap - of_total[2];
    g->lowest[d] = low;
    g->change[d] = change / K;
    if (!g->logs) continue;
    total = 0;
    for (long k = 0; k < K; k++) total += gamma[k];
    NAME(gammas)(&total, of_total, of_total + 1, of_total + 2, 1);
    NAME(gammas)(gamma, spare, psi, log_gamma, K);
    for (long k = 0; k < K; k++) g->logs[block * K + k] += psi[k] - of_total[1];
  }
}

/* Given gamma, so many steps (fewer where the mean change of gamma_k falls to tol): the last gamma; theta (without its
   normaliser) and ratios that it was made from; the bound of each document at the gamma given, less what depends on
   alpha alone; the sums of E log theta at the last gamma. */
void NAME(documents)(const REAL *gamma, const REAL *beta, const REAL *alpha, const REAL *counts, const long *starts,
                     const long *columns, REAL *new_gamma, REAL *theta, REAL *ratio, REAL *bound, REAL *lowest,
                     REAL *change, REAL *logs, REAL *scratch, long D, long K, long W, long steps, double tol,
                     long threads) {
  NAME(documents_given) g = {gamma, beta, alpha, counts, starts, columns, new_gamma, theta, ratio, bound, lowest,
                             change, logs, scratch, D, K, W, steps, tol};
  zoo_run(NAME(documents_block), &g, (D + BLOCK - 1) / BLOCK, threads);
}

typedef struct {
  const REAL *theta, *ratio, *beta; /* [D, W], [cell], [V, W] */
  const long *starts, *rows, *order; /* of words: [V + 1], the document of each cell, its place among documents' cells */
  REAL *sums;                        /* [V, K] */
  REAL *scratch;                     /* [thread, W] */
  long V, K, W;
} NAME(words_given);

static void NAME(words_block)(zoo_work *work, long block, long thread) {
  const NAME(words_given) *g = work->given;
  const long K = g->K, W = g->W, last = MIN(g->V, (block + 1) * BLOCK);
  REAL *sums = g->scratch + thread * W;
  for (long v = block * BLOCK; v < last; v++) {
    const REAL *beta = g->beta + v * W;
    const long to = g->starts[v + 1];
    memset(sums, 0, W * sizeof(REAL));
    long e = g->starts[v];
    for (; e + 4 <= to; e += 4) {
      const REAL *restrict t0 = g->theta + g->rows[e] * W, *restrict t1 = g->theta + g->rows[e + 1] * W;
      const REAL *restrict t2 = g->theta + g->rows[e + 2] * W, *restrict t3 = g->theta + g->rows[e + 3] * W;
      const REAL r0 = g->ratio[g->order[e]], r1 = g->ratio[g->order[e + 1]];
      const REAL r2 = g->ratio[g->order[e + 2]], r3 = g->ratio[g->order[e + 3]];
      if (e + 12 < to) __builtin_prefetch(g->theta + g->rows[e + 8] * W), __builtin_prefetch(g->ratio + g->order[e + 8]);
#pragma omp simd
      for (long k = 0; k < W; k++) sums[k] += (r0 * t0[k] + r1 * t1[k]) + (r2 * t2[k] + r3 * t3[k]);
    }
    for (; e < to; e++) {
      const REAL *restrict t = g->theta + g->rows[e] * W;
      const REAL r = g->ratio[g->order[e]];
#pragma omp simd
      for (long k = 0; k < W; k++) sums[k] += r * t[k];
    }
    for (long k = 0; k < K; k++) g->sums[v * K + k] = sums[k] * beta[k];
  }
}

/* beta_vk sum over the cells of word v of ratio theta_dk. */
void NAME(words)(const REAL *theta, const REAL *ratio, const REAL *beta, const long *starts, const long *rows,
                 const long *order, REAL *sums, REAL *scratch, long V, long K, long W, long threads) {
  NAME(words_given) g = {theta, ratio, beta, starts, rows, order, sums, scratch, V, K, W};
  zoo_run(NAME(words_block), &g, (V + BLOCK - 1) / BLOCK, threads);
}

typedef struct {
  const REAL *x, *scale; /* [V, K], [K] */
  REAL *factors, *sums;  /* [V, W], [block, 3 K] */
  REAL *scratch;         /* [thread, 2 W] */
  long V, K, W;
} NAME(factors_given);

static void NAME(factors_block)(zoo_work *work, long block, long thread) {
  const NAME(factors_given) *g = work->given;
  const long K = g->K, W = g->W, last = MIN(g->V, (block + 1) * BLOCK);
  REAL *psi = g->scratch + thread * 2 * W, *log_gamma = psi + W, *sums = g->sums + block * 3 * K;
  memset(sums, 0, 3 * K * sizeof(REAL));
  for (long v = block * BLOCK; v < last; v++) {
    const REAL *restrict x = g->x + v * K;
    REAL *restrict out = g->factors + v * W;
    NAME(gammas)(x, out, psi, log_gamma, K);
#pragma omp simd
    for (long k = 0; k < K; k++) {
      out[k] *= g->scale[k];
      sums[k] += psi[k];
      sums[K + k] += x[k] * psi[k];
      sums[2 * K + k] += log_gamma[k];
    }
    for (long k = K; k < W; k++) out[k] = 0;
  }
}

/* exp(psi(x_vk)) times a scale for each k, padded; and by block the sums of psi(x), x psi(x) and log Gamma(x). */
void NAME(factors)(const REAL *x, const REAL *scale, REAL *factors, REAL *sums, REAL *scratch, long V, long K, long W,
                   long threads) {
  NAME(factors_given) g = {x, scale, factors, sums, scratch, V, K, W};
  zoo_run(NAME(factors_block), &g, (V + BLOCK - 1) / BLOCK, threads);
}
