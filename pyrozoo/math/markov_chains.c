/* Forward filtering, and backward smoothing or sampling, of hidden Markov chains (markov_chains.py). LANES sequences of
   about the same length go side by side, one in each lane of a vector; lanes whose sequence has ended go on with what
   nobody reads. A block of work is some such groups of one set of parameters; blocks add to sums in turn. */
#define LANES (32 / (long)sizeof(REAL))
#define CHUNK 32
#define LOWEST _Generic((REAL)0, float: -3e38f, double: -1e300)
#define TINY _Generic((REAL)0, float: 1e-30f, double: 1e-250)
typedef REAL NAME(lanes) __attribute__((vector_size(32), aligned(sizeof(REAL)), may_alias));
#define VECTOR NAME(lanes)
typedef __typeof__((VECTOR){0} > (VECTOR){0}) NAME(mask);
/* a where a comparison holds, else b, lane by lane. */
#define WHERE(holds, a, b) ((VECTOR)(((NAME(mask))(a) & (holds)) | ((NAME(mask))(b) & ~(holds))))

typedef struct {
  const REAL *initial, *transition, *emission, *uniform, *weight; /* [C, K], [C, K, K], [N, C, K], [N, C], [S, C] */
  const long *starts, *lengths, *order;                           /* [S] */
  REAL *found, *evidence, *first, *pairs, *scratch;               /* [N, C, K], [S, C], [C, K], [C, K, K] */
  long size, S, C, K, groups, blocks;
} NAME(smooth_given);

/* One lane's step where all that can be is improbable: scale by the best of the states that can be. */
static double NAME(rescue)(const REAL *predicted, const REAL *raw, VECTOR *a, long K, long lane) {
  double most = -1e300, total = 0;
  for (long k = 0; k < K; k++)
    if (predicted[k * LANES + lane] > 0) most = MAX(most, (double)raw[k * LANES + lane]);
  if (!(most > -1e300)) most = 0;
  for (long k = 0; k < K; k++) {
    const double p = predicted[k * LANES + lane];
    const double value = p > 0 ? p * exp((double)raw[k * LANES + lane] - most) : 0;
    ((REAL *)a)[k * LANES + lane] = (REAL)value;
    total += (REAL)value;
  }
  for (long k = 0; k < K; k++) {
    REAL *value = (REAL *)a + k * LANES + lane;
    *value = total > 0 ? (REAL)(*value / total) : (REAL)1 / K;
  }
  return log(total) + most;
}

static void NAME(group)(const NAME(smooth_given) *g, long chain, long from, REAL *scratch, REAL *first, REAL *pairs) {
  const long C = g->C, K = g->K, n = MIN(LANES, g->S - from), row = C * K;
  const REAL *A = g->transition + chain * K * K, *pi = g->initial + chain * K;
  const REAL *in[LANES];
  REAL *out[LANES];
  long length[LANES], longest = 0;
  for (long l = 0; l < LANES; l++) {
    const long s = g->order[from + (l < n ? l : 0)];
    length[l] = g->lengths[s];
    in[l] = g->emission + g->starts[s] * row + chain * K;
    out[l] = g->found + g->starts[s] * row + chain * K;
    longest = MAX(longest, length[l]);
  }
  VECTOR *a = (VECTOR *)scratch, *raw = a + (longest + 1) * K, *e = raw + CHUNK * K, *scale = e + CHUNK * K;
  VECTOR *predicted = scale + CHUNK, *next = predicted + K, *ratio = next + K, *sums = ratio + K;
  double evidence[LANES] = {0};
  for (long from_t = 0; from_t < longest; from_t += CHUNK) {
    const long steps = MIN(CHUNK, longest - from_t);
    for (long t = 0; t < steps; t++) {
      VECTOR most;
      for (long l = 0; l < LANES; l++) {
        const long at = MIN(from_t + t, length[l] - 1);
        for (long k = 0; k < K; k++) ((REAL *)(raw + t * K + k))[l] = in[l][at * row + k];
      }
      most = raw[t * K];
      for (long k = 1; k < K; k++) most = WHERE(raw[t * K + k] > most, raw[t * K + k], most);
      most = WHERE(most > LOWEST, most, (VECTOR){0});
      scale[t] = most;
      for (long k = 0; k < K; k++) e[t * K + k] = raw[t * K + k] - most;
    }
    REAL *flat = (REAL *)e;
#pragma omp simd
    for (long i = 0; i < steps * K * LANES; i++) flat[i] = EXP(flat[i]);
    VECTOR totals[CHUNK];
    for (long t = 0; t < steps; t++) {
      VECTOR *now = a + (from_t + t) * K, total = {0};
      const VECTOR *before = now - K;
      if (from_t + t == 0)
        for (long k = 0; k < K; k++) predicted[k] = (VECTOR){0} + pi[k];
      else
        for (long k = 0; k < K; k++) {
          VECTOR sum = before[0] * A[k];
          for (long i = 1; i < K; i++) sum += before[i] * A[i * K + k];
          predicted[k] = sum;
        }
      for (long k = 0; k < K; k++) now[k] = predicted[k] * e[t * K + k], total += now[k];
      long low = 0;
      for (long l = 0; l < LANES; l++) low |= !(total[l] > TINY);
      const VECTOR inverse = 1 / total;
      for (long k = 0; k < K; k++) now[k] *= inverse;
      if (low)
        for (long l = 0; l < LANES; l++)
          if (!(total[l] > TINY)) {
            const double log_c = NAME(rescue)((REAL *)predicted, (REAL *)(raw + t * K), now, K, l);
            if (from_t + t < length[l]) evidence[l] += log_c - scale[t][l];
            total[l] = 1;
          }
      totals[t] = total;
    }
    REAL *logs = (REAL *)totals;
#pragma omp simd
    for (long i = 0; i < steps * LANES; i++) logs[i] = LOG(logs[i]);
    for (long l = 0; l < LANES; l++)
      for (long t = 0; t < MIN(steps, length[l] - from_t); t++) evidence[l] += totals[t][l] + scale[t][l];
  }
  VECTOR share;
  for (long l = 0; l < LANES; l++) {
    const long s = g->order[from + (l < n ? l : 0)];
    share[l] = l < n ? (g->weight ? g->weight[s * C + chain] : 1) : 0;
    if (l < n) g->evidence[s * C + chain] = (REAL)evidence[l];
  }
  for (long k = 0; k < K * K; k++) sums[k] = (VECTOR){0};
  for (long t = longest - 1; t >= 0; t--) {
    const VECTOR *now = a + t * K;
    VECTOR going;
    long ends = 0;
    for (long l = 0; l < LANES; l++) going[l] = t + 1 < length[l], ends |= t + 1 >= length[l];
    if (g->uniform) {
      for (long k = 0; k < K; k++) ratio[k] = next[k]; /* the states that were drawn after */
    } else if (t + 1 < longest) {
      for (long k = 0; k < K; k++) {
        VECTOR sum = now[0] * A[k];
        for (long i = 1; i < K; i++) sum += now[i] * A[i * K + k];
        ratio[k] = WHERE(sum > TINY, next[k] / sum, (VECTOR){0});
      }
    }
    if (ends)
      for (long k = 0; k < K; k++) ratio[k] = WHERE(going > 0, ratio[k], (VECTOR){0} + 1);
    for (long i = 0; i < K; i++) {
      VECTOR sum = ratio[0] * A[i * K];
      for (long j = 1; j < K; j++) sum += ratio[j] * A[i * K + j];
      next[i] = now[i] * sum;
    }
    if (ends)
      for (long k = 0; k < K; k++) next[k] = WHERE(going > 0, next[k], now[k]);
    if (g->uniform) {
      for (long l = 0; l < LANES; l++) {
        if (t >= length[l]) continue;
        double total = 0, sum = 0;
        for (long k = 0; k < K; k++) total += next[k][l];
        const long s = g->order[from + (l < n ? l : 0)];
        const double u = g->uniform[(g->starts[s] + t) * C + chain] * total;
        long z = 0;
        for (; z < K - 1; z++)
          if ((sum += next[z][l]) > u) break;
        while (z > 0 && !(next[z][l] > 0)) z--; /* rounding */
        for (long k = 0; k < K; k++) next[k][l] = k == z;
      }
    }
    const VECTOR mine = share * going;
    for (long i = 0; i < K; i++) {
      const VECTOR left = (g->uniform ? next[i] : now[i]) * mine;
      for (long j = 0; j < K; j++) sums[i * K + j] += left * ratio[j];
    }
    for (long l = 0; l < n; l++)
      if (t < length[l])
        for (long k = 0; k < K; k++) out[l][t * row + k] = ((REAL *)(next + k))[l];
  }
  for (long k = 0; k < K; k++)
    for (long l = 0; l < n; l++) first[k] += next[k][l] * share[l];
  for (long k = 0; k < K * K; k++)
    for (long l = 0; l < n; l++) pairs[k] += sums[k][l] * (g->uniform ? 1 : A[k]);
}

static void NAME(smooth_block)(zoo_work *work, long block, long thread) {
  const NAME(smooth_given) *g = work->given;
  const long K = g->K, chain = block / g->blocks, size = g->groups * LANES, from = (block % g->blocks) * size;
  REAL *scratch = g->scratch + thread * g->size;
  scratch += (64 - ((unsigned long)scratch & 63)) / sizeof(REAL);
  REAL *sums = scratch + g->size - 64 - (K + K * K) * LANES;
  for (long k = 0; k < K + K * K; k++) sums[k] = 0;
  for (long at = from; at < MIN(from + size, g->S); at += LANES)
    NAME(group)(g, chain, at, scratch, sums, sums + K);
  zoo_turn(work, block);
  for (long k = 0; k < K; k++) g->first[chain * K + k] += sums[k];
  for (long k = 0; k < K * K; k++) g->pairs[chain * K * K + k] += sums[K + k];
  zoo_done(work);
}

/* Smooth S sequences under C sets of parameters; of every thread scratch has so much (size). */
void NAME(smooth)(const REAL *initial, const REAL *transition, const REAL *emission, const REAL *uniform,
                  const REAL *weight, const long *starts, const long *lengths, const long *order, REAL *found,
                  REAL *evidence, REAL *first, REAL *pairs, REAL *scratch, long size, long S, long C, long K,
                  long groups, long threads) {
  const long blocks = (S + groups * LANES - 1) / (groups * LANES);
  NAME(smooth_given) given = {initial, transition, emission, uniform, weight, starts, lengths, order, found,
                              evidence, first, pairs, scratch, size, S, C, K, groups, blocks};
  zoo_run(NAME(smooth_block), &given, blocks * C, threads);
}
